import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import type { Sample } from "@/api/prometheus";
import { ContainerLink, NamespaceLink, NodeLink, PodLink, WorkloadLink } from "@/parts/objects/links";
import { overview as m } from "@/i18n/overview";
import { Section } from "@/ui/Bits";
import { count, percent } from "@/ui/format";
import classes from "./overview.module.css";
import { useWorst, type WorstKind } from "./queries";

const lists: readonly { kind: WorstKind; title: string; format: (v: number) => string; none: string }[] = [
  { kind: "restarts", title: m.worst.restarts, format: count, none: m.worst.noRestarts },
  { kind: "memory", title: m.worst.memory, format: percent, none: m.worst.noMemory },
  { kind: "cpu", title: m.worst.cpu, format: percent, none: m.worst.noCPU },
  { kind: "throttled", title: m.worst.throttled, format: percent, none: m.worst.noThrottled },
  { kind: "disk", title: m.worst.disk, format: percent, none: m.worst.noDisk },
  { kind: "volumes", title: m.worst.volumes, format: percent, none: m.worst.noVolumes },
];

/** The few objects that are nearest to trouble, whether or not a policy looks at them. */
export function WorstNow({ several }: { several: boolean }) {
  return (
    <Section title={m.worst.title}>
      <div className={classes.worst}>
        {lists.map((l) => (
          <WorstList key={l.kind} several={several} {...l} />
        ))}
      </div>
    </Section>
  );
}

function WorstList({ several, kind, title, format, none }: (typeof lists)[number] & { several: boolean }) {
  const worst = useWorst(kind);
  return (
    <div className={classes.worstList}>
      <h3>{title}</h3>
      {worst.error && !worst.data ? (
        <p className={classes.quiet}>{m.worst.failed(worst.error.message)}</p>
      ) : worst.data === undefined ? (
        <Skeleton height={128} />
      ) : worst.data.length === 0 ? (
        <p className={classes.quiet}>{none}</p>
      ) : (
        <ol>
          {worst.data.map((s) => (
            <li key={JSON.stringify(s.labels)}>
              <span className={classes.worstName}>{subject(s)}</span>
              <span className={classes.worstPlace}>{place(s, several)}</span>
              <span className={classes.worstValue}>{format(s.value)}</span>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function subject({ labels: l }: Sample): ReactNode {
  const { cluster = "", namespace = "", pod, container, workload, workload_type: type, node, persistentvolumeclaim: claim } = l;
  if (claim !== undefined) return <NamespaceLink cluster={cluster} namespace={namespace}>{claim}</NamespaceLink>;
  if (pod !== undefined && container !== undefined) return <ContainerLink cluster={cluster} namespace={namespace} pod={pod} container={container}>{`${pod} ▸ ${container}`}</ContainerLink>;
  if (pod !== undefined) return <PodLink cluster={cluster} namespace={namespace} pod={pod} />;
  if (workload !== undefined && type !== undefined)
    return <WorkloadLink cluster={cluster} namespace={namespace} type={type} name={workload} />;
  return (
    <NodeLink cluster={cluster} node={node ?? ""}>
      {node} {l.mountpoint}
    </NodeLink>
  );
}

const place = ({ labels: l }: Sample, several: boolean): string => [several ? l.cluster : undefined, l.namespace].filter((p) => p !== undefined).join(" ▸ ");
