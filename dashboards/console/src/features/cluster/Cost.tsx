import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { RequestError } from "@/api/problem";
import type { components } from "@/api/schema";
import { objects as m } from "@/i18n/objects";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { Empty, Failure, TableSkeleton } from "@/ui/Feedback";
import { bytes, bytesPerSecond, count, duration, number } from "@/ui/format";
import { StateLabel } from "@/ui/state";
import classes from "./cluster.module.css";
import { useIngest, useLineRate, useStatus } from "./queries";

type LimitName = keyof components["schemas"]["Limits"];

interface Limit {
  readonly name: LimitName;
  readonly limit: number;
  readonly used: number | undefined;
}

/** Each limit that the server has needs its words here; shown in their order, what bounds the cluster first. */
const limitWords: Record<LimitName, string> = m.cost.names;
const limitNames = Object.keys(limitWords) as readonly LimitName[];
const inSeconds = new Set<LimitName>(["ahead_seconds", "behind_seconds"]);

/** What a cluster sends and keeps busy here, what bounds it, what was refused, and where its series come from. */
export default function Cost({ cluster }: { cluster: string }) {
  const ingest = useIngest(cluster);
  const lines = useLineRate(cluster);
  const status = useStatus();
  const limits = useMemo((): Limit[] => {
    const used: Partial<Record<LimitName, number | undefined>> = {
      series_per_cluster: ingest.data?.active_series, samples_per_second: ingest.data?.samples_per_second, senders_per_cluster: ingest.data?.senders,
      series_per_namespace: ingest.data?.namespaces.by_series[0]?.series, series_per_workload: ingest.data?.workloads.by_series[0]?.series,
    };
    return ingest.data ? limitNames.map((name) => ({ name, limit: ingest.data.limits[name], used: used[name] })) : [];
  }, [ingest.data]);
  const i = ingest.data;
  if (!i && ingest.error) {
    if (ingest.error instanceof RequestError && ingest.error.notFound) return <Empty title={m.cost.notYet} />;
    return <Failure what={m.cost.title} error={ingest.error} onRetry={() => void ingest.refetch()} />;
  }
  if (!i) return <TableSkeleton />;
  const refused = [...i.refused, ...i.throttled];
  return (
    <div className={classes.stack}>
      <Section title={m.cost.title}>
        <Card>
          <Facts>
            <Fact label={m.cost.series}>{count(i.active_series)}</Fact>
            <Fact label={m.cost.samples}>{m.cost.perSecond(number(i.samples_per_second))}</Fact>
            <Fact label={m.cost.lines}>{lines.data ? m.cost.perSecond(number(lines.data.lines)) : m.unknown}</Fact>
            <Fact label={m.cost.linesBytes}>{lines.data ? bytesPerSecond(lines.data.bytes) : m.unknown}</Fact>
            <Fact label={m.cost.senders}>{count(i.senders)}</Fact>
            <Fact label={m.cost.newSeries}>{count(i.new_series)}</Fact>
            {(status.data?.stores ?? []).map((s) => (
              <Fact key={s.name} label={m.cost.store(s.name)}>
                {bytes(s.bytes)}
              </Fact>
            ))}
          </Facts>
        </Card>
      </Section>
      <Section title={m.cost.refused}>
        <Card>
          {refused.length === 0 ? (
            m.cost.noRefused
          ) : (
            <ul className={classes.refused}>
              {refused.map((r) => (
                <li key={r.reason}>
                  <StateLabel state="warning">
                    {r.reason}: {count(r.count)}
                  </StateLabel>
                </li>
              ))}
            </ul>
          )}
        </Card>
      </Section>
      <Section title={m.cost.limits}>
        <Limits limits={limits} />
      </Section>
      <Section title={m.cost.from}>
        <div className={classes.origins}>
          {(["metrics", "namespaces", "workloads"] as const).map((of) => (
            <div key={of} className={classes.originList}>
              <h3>{m.cost.by[of]}</h3>
              <table>
                <thead>
                  <tr>
                    <th />
                    <th>{m.cost.series}</th>
                    <th>{m.cost.churn}</th>
                  </tr>
                </thead>
                <tbody>
                  {i[of].by_series.map((o) => (
                    <tr key={o.name}>
                      <td>
                        <Origin cluster={cluster} of={of} name={o.name} />
                      </td>
                      <td>{count(o.series)}</td>
                      <td>{count(o.churn)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          ))}
        </div>
      </Section>
    </div>
  );
}

function Origin({ cluster, of, name }: { cluster: string; of: "metrics" | "namespaces" | "workloads"; name: string }) {
  if (of === "metrics")
    return (
      <Link to="/explore" search={{ q: `${name}{cluster=${JSON.stringify(cluster)}}` }}>
        {name}
      </Link>
    );
  const [ns = "", type = "", workload = ""] = name.split("/");
  if (of === "namespaces" || workload === "")
    return (
      <Link to="/clusters/$cluster/namespaces/$ns" params={{ cluster, ns }}>
        {name}
      </Link>
    );
  return (
    <Link to="/clusters/$cluster/namespaces/$ns/workloads/$type/$name" params={{ cluster, ns, type, name: workload }}>
      {name}
    </Link>
  );
}

const noSort = { column: "name", descending: false };
const columns: Column<Limit>[] = [
  { id: "name", header: m.cost.limit, width: "minmax(180px, 2fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, cell: (l) => limitWords[l.name] },
  { id: "used", header: m.cost.used, numeric: true, width: "120px", phoneWidth: "90px", cell: (l) => (l.used === undefined ? "" : number(l.used)) },
  { id: "limit", header: m.cost.value, numeric: true, width: "120px", phoneWidth: "90px", cell: (l) => (l.limit === 0 ? m.cost.noLimit : inSeconds.has(l.name) ? duration(l.limit) : count(l.limit)) },
];

const Limits = ({ limits }: { limits: readonly Limit[] }) => <DataTable label={m.cost.limits} columns={columns} rows={limits} rowKey={(l) => l.name} sort={noSort} onSort={() => undefined} />;
