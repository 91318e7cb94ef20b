import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import type { Sample } from "@/api/prometheus";
import { NodeLink, PodLink, WorkloadLink } from "@/parts/objects/links";
import { Section } from "@/ui/Bits";
import { count, percent } from "@/ui/format";
import classes from "./overview.module.css";
import { useWorst, type WorstKind } from "./queries";

const lists: readonly { kind: WorstKind; title: string; format: (v: number) => string; none: string }[] = [
  { kind: "restarts", title: "Most restarts in 1 h", format: count, none: "Nothing restarted in the last hour." },
  { kind: "memory", title: "Nearest to the memory limit", format: percent, none: "No pod is over 50 % of its memory limit." },
  { kind: "cpu", title: "Nearest to the CPU limit", format: percent, none: "No pod is over 50 % of its CPU limit." },
  { kind: "disk", title: "Fullest file systems", format: percent, none: "No file system is over 50 % full." },
];

/** The few objects that are nearest to trouble, whether or not a policy looks at them. */
export function WorstNow() {
  return (
    <Section title="Worst now">
      <div className={classes.worst}>
        {lists.map((l) => (
          <WorstList key={l.kind} {...l} />
        ))}
      </div>
    </Section>
  );
}

function WorstList({ kind, title, format, none }: (typeof lists)[number]) {
  const worst = useWorst(kind);
  return (
    <div className={classes.worstList}>
      <h3>{title}</h3>
      {worst.error && !worst.data ? (
        <p className={classes.quiet}>Could not be loaded: {worst.error.message}</p>
      ) : worst.data === undefined ? (
        <Skeleton height={128} />
      ) : worst.data.length === 0 ? (
        <p className={classes.quiet}>{none}</p>
      ) : (
        <ol>
          {worst.data.map((s) => (
            <li key={JSON.stringify(s.labels)}>
              <span className={classes.worstName}>{subject(s)}</span>
              <span className={classes.worstPlace}>{place(s)}</span>
              <span className={classes.worstValue}>{format(s.value)}</span>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function subject({ labels: l }: Sample): ReactNode {
  const { cluster = "", namespace = "", pod, workload, workload_type: type, node } = l;
  if (pod !== undefined) return <PodLink cluster={cluster} namespace={namespace} pod={pod} />;
  if (workload !== undefined && type !== undefined)
    return <WorkloadLink cluster={cluster} namespace={namespace} type={type} name={workload} />;
  return (
    <NodeLink cluster={cluster} node={node ?? ""}>
      {node} {l.mountpoint}
    </NodeLink>
  );
}

const place = ({ labels: l }: Sample): string => [l.cluster, l.namespace].filter((p) => p !== undefined).join(" ▸ ");
