import { SegmentedControl } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { incidents as m } from "@/i18n/incidents";
import { Page } from "@/parts/page";
import { useStatistics } from "@/parts/policies/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { count, duration, unknown } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { StateLabel, stateOf } from "@/ui/state";
import classes from "./incidents.module.css";

const choices = [7, 30, 90] as const;

type Noisy = NonNullable<ReturnType<typeof useStatistics>["data"]>["noisiest"][number] & { readonly place: number };

// A policy that was deleted and made again is there twice, hence the place.
const columns: Column<Noisy>[] = [
  {
    id: "policy",
    header: m.statistics.policy,
    width: "minmax(180px, 3fr)",
    phoneWidth: "minmax(0, 1fr)",
    wraps: true,
    sort: (n) => n.policy,
    cell: (n) => (
      <Link to="/policies/$name" params={{ name: n.policy }}>
        {n.policy}
      </Link>
    ),
  },
  { id: "alerts", header: m.statistics.alerts, numeric: true, width: "90px", phoneWidth: "70px", sort: (n) => n.alerts, cell: (n) => count(n.alerts) },
  { id: "incidents", header: m.statistics.incidents, numeric: true, width: "90px", phoneWidth: "80px", sort: (n) => n.incidents, cell: (n) => count(n.incidents) },
  {
    id: "show",
    header: "",
    wide: true,
    width: "100px",
    cell: (n) => (
      <Link to="/incidents" search={{ policy: n.policy, state: "all" }}>
        {m.statistics.toThem}
      </Link>
    ),
  },
];

/** How long it took to take care of incidents and to end them, and what made the most noise. */
export function Statistics({ choice, cluster, days: asked, onDays }: { choice: ReactNode; cluster: string | undefined; days: string | undefined; onDays: (days: string | undefined) => void }) {
  const days = choices.find((d) => String(d) === asked) ?? 30;
  const statistics = useStatistics(days, cluster);
  const [sort, setSort] = useState({ column: "alerts", descending: true });
  const s = statistics.data;
  return (
    <Page title={m.title} loading={!s && !statistics.error} sentence={s ? m.statistics.sentence(s.incidents, days) : undefined} aside={choice}>
      <div>
        <SegmentedControl size="xs" aria-label={m.statistics.range} value={String(days)} onChange={(d) => onDays(d === "30" ? undefined : d)} data={choices.map((d) => ({ value: String(d), label: m.statistics.days(d) }))} />
      </div>
      <Loaded query={statistics} what={m.statistics.what} skeleton={<TableSkeleton rows={4} />}>
        {(d) => (
          <>
            <Card>
              <Facts>
                <Fact label={m.statistics.incidents}>{count(d.incidents)}</Fact>
                <Fact label={m.statistics.open}>{count(d.open)}</Fact>
                <Fact label={m.statistics.acknowledged}>{count(d.acknowledged)}</Fact>
                <Fact label={m.statistics.resolved}>{count(d.resolved)}</Fact>
                <Fact label={m.statistics.mtta}>{d.acknowledged === 0 ? unknown : duration(d.mean_seconds_to_acknowledge)}</Fact>
                <Fact label={m.statistics.mttr}>{d.resolved === 0 ? unknown : duration(d.mean_seconds_to_resolve)}</Fact>
                <Fact label={m.statistics.bySeverity}>
                  <span className={classes.severities}>
                    {(["critical", "warning", "info"] as const).map((severity) => (
                      <StateLabel key={severity} state={stateOf(severity)}>
                        {count(d.by_severity[severity] ?? 0)} {m.severity[severity]}
                      </StateLabel>
                    ))}
                  </span>
                </Fact>
              </Facts>
            </Card>
            <Section title={m.statistics.noisiest} note={m.statistics.noisiestNote}>
              <DataTable label={m.statistics.noisiest} columns={columns} rows={d.noisiest.map((n, place) => ({ ...n, place }))} rowKey={(n) => String(n.place)} sort={sort} onSort={setSort} empty={m.statistics.none} />
            </Section>
          </>
        )}
      </Loaded>
    </Page>
  );
}
