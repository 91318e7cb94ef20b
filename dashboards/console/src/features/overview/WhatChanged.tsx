import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Row } from "@/api/logsql";
import type { Incident } from "@/api/types";
import { overview as m } from "@/i18n/overview";
import { server } from "@/i18n/server";
import { NodeLink, WorkloadLink } from "@/parts/objects/links";
import { useIncidents } from "@/parts/queries";
import { Card, Section } from "@/ui/Bits";
import { clock } from "@/ui/format";
import { useNow } from "@/ui/now";
import { stateOf, StateIcon } from "@/ui/state";
import { type Change, changes, changeWords } from "./changed";
import classes from "./overview.module.css";
import { useChanges } from "./queries";

const noIncidents: readonly Incident[] = [];

/** Rollouts, scalings, nodes and incidents of the last hour, newest first: what may be the cause of what is wrong. */
export function WhatChanged({ several }: { several: boolean }) {
  const events = useChanges();
  const incidents = useIncidents("all");
  const now = useNow();
  const list = useMemo(() => changes(events.data ?? [], incidents.data ?? noIncidents, now), [events.data, incidents.data, now]);
  return (
    <Section title={m.changed.title} note={m.changed.note} right={<Link to="/events" className={classes.more}>{m.changed.all}</Link>}>
      {events.error && !events.data ? (
        <Card>
          <span className={classes.quiet}>{m.changed.failed(events.error.message)}</span>
        </Card>
      ) : !events.data ? (
        <Skeleton height={180} radius={8} />
      ) : (
        <Card>
          {list.length === 0 ? (
            <span className={classes.quiet}>{m.changed.none}</span>
          ) : (
            <ol className={classes.changes}>
              {list.slice(0, 14).map((c) => (
                <li key={c.key}>
                  <time className={classes.quiet}>{clock(c.at, now)}</time>
                  <span className={classes.changeKind}>{c.incident ? <StateIcon state={c.ended ? "ok" : stateOf(c.incident.severity)} size={14} /> : null}{c.kind}</span>
                  <span className={classes.changeText}>{c.incident ? <Link to="/incidents/$id" params={{ id: c.incident.id }}>{server.alert(c.incident.title)}</Link> : c.row ? <Of row={c.row} /> : null}</span>
                  {several ? <span className={classes.quiet}>{c.cluster}</span> : null}
                </li>
              ))}
            </ol>
          )}
        </Card>
      )}
    </Section>
  );
}

/** The event's words, as a link to its object where it has a page. Kubernetes' own often leave out whose they are. */
function Of({ row }: { row: NonNullable<Change["row"]> }) {
  const words = changeWords(row);
  const { cluster, namespace, kind, name } = row;
  if (cluster === undefined || name === undefined) return words;
  if (kind === "Node") return <NodeLink cluster={cluster} node={name}>{words}</NodeLink>;
  const type = workloadType(row);
  return namespace !== undefined && type !== undefined ? <WorkloadLink cluster={cluster} namespace={namespace} type={type} name={row.workload || name}>{words}</WorkloadLink> : words;
}

function workloadType(row: Row): string | undefined {
  if (row.workload_type) return row.workload_type;
  const type = (row.kind ?? "").toLowerCase();
  return ["deployment", "statefulset", "daemonset"].includes(type) ? type : undefined;
}
