import { Button, Skeleton } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Alert } from "@/api/types";
import { ChartPanel } from "@/parts/charts/ChartPanel";
import { chartStep } from "@/parts/charts/queries";
import type { Mark } from "@/parts/charts/Plot";
import { DeliveryTable } from "@/parts/deliveries/DeliveryTable";
import { LogLines } from "@/parts/logs/LogLines";
import { keyed, logsQuery, message, rowTime } from "@/parts/logs/model";
import { useLogsOf } from "@/parts/logs/queries";
import { causeWords, incidentState } from "@/parts/incidents/model";
import { ClusterLink, NodeLink, PodLink, WorkloadLink } from "@/parts/objects/links";
import { Page, useRange } from "@/parts/page";
import { useCatalogue, useClusters } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { byUnit, clock, instant, lineTime } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateIcon, StateLabel, stateOf } from "@/ui/state";
import { toRFC3339 } from "@/ui/time";
import { Actions } from "./Actions";
import classes from "./incidents.module.css";
import { useTimeline } from "@/parts/incidents/actions";
import { alertLabels, eventFilter, evidenceMetric, evidenceRange, logScope, objectWords, timeline, type TimelineEntry, whenWords } from "./model";
import { useIncident } from "./queries";

const route = getRouteApi("/incidents/$id");
const noEntries: readonly TimelineEntry[] = [];

export function IncidentPage() {
  const { id } = route.useParams();
  const detail = useIncident(id);
  const now = useNow();
  const d = detail.data;
  const alerts = d?.alerts ?? [];
  const [first] = alerts;
  const [sort, setSort] = useState<string | undefined>();
  const told = useTimeline(id);
  const steps = useMemo(() => (d ? timeline(d, told.data ?? noEntries) : []), [d, told.data]);
  const state = d ? incidentState(d.incident) : undefined;
  return (
    <Page
      crumbs={[
        <Link key="i" to="/incidents">
          Incidents
        </Link>,
      ]}
      title={d?.incident.title ?? "Incident"}
      state={state === "idle" ? "ok" : state}
      loading={!d && !detail.error}
      sentence={
        d
          ? `${d.incident.ended_at ? `Resolved; it was ${d.incident.severity}` : capital(d.incident.severity)} ${whenWords(d.incident.started_at, d.incident.ended_at, now, (s) => clock(s, now))}${d.incident.cause ? `: ${causeWords(d.incident.cause)}` : ""}.`
          : undefined
      }
      aside={d ? <Actions incident={d.incident} /> : undefined}
    >
      {detail.error && !d ? (
        <Failure what="The incident" error={detail.error} onRetry={() => void detail.refetch()} />
      ) : !d ? (
        <Skeleton height={320} radius={8} />
      ) : (
        <div className={classes.columns}>
          <div className={classes.left}>
            <Card>
              <Facts>
                <Fact label="Severity">
                  <StateLabel state={stateOf(d.incident.severity)}>{d.incident.severity}</StateLabel>
                </Fact>
                <Fact label="Cluster">
                  <ClusterLink cluster={d.incident.cluster.id}>{d.incident.cluster.name || d.incident.cluster.id}</ClusterLink>
                </Fact>
                <Fact label="Acknowledged">{d.incident.acknowledged_by ?? "by nobody"}</Fact>
                {d.incident.assignee ? <Fact label="Assigned to">{d.incident.assignee}</Fact> : null}
                {d.incident.muted.length > 0 ? (
                  <Fact label="Muted">
                    <StateLabel state="stale">{d.incident.muted.join(", ")}</StateLabel>
                  </Fact>
                ) : null}
                {d.incident.reopened > 0 ? <Fact label="Reopened">{d.incident.reopened}×</Fact> : null}
              </Facts>
            </Card>
            <Section title="What happened">
              <Card>
                <ol className={classes.timeline}>
                  {steps.map((s, i) => (
                    <li key={`${s.at} ${s.title} ${i}`}>
                      <StateIcon state={s.state} />
                      <span className={classes.when} title={lineTime(s.at)}>
                        {clock(s.at, now, true)}
                      </span>
                      <span>
                        {s.title}
                        {s.text === "" ? null : <span className={classes.quiet}> · {s.text}</span>}
                      </span>
                    </li>
                  ))}
                </ol>
                {d.deliveries.length === 0 ? (
                  <p className={classes.quiet}>Nobody is told: no policy or route names a target for it.</p>
                ) : null}
              </Card>
            </Section>
          </div>
          <div className={classes.right}>
            {alerts.length === 0 ? <Empty title="No alert belongs to this incident" /> : null}
            {first ? <Evidence alert={first} /> : null}
            {first ? <Around alert={first} /> : null}
            <Section title="Alerts" note={alerts.length > 1 ? String(alerts.length) : undefined}>
              {alerts.map((a) => (
                <AlertCard key={a.id} alert={a} />
              ))}
            </Section>
            <Section title="Notifications" note={String(d.deliveries.length)}>
              <DeliveryTable deliveries={d.deliveries} sort={sort} onSort={setSort} withIncident={false} empty="Nobody is told: no policy or route names a target for it." />
            </Section>
          </div>
        </div>
      )}
    </Page>
  );
}

const capital = (s: string): string => s.charAt(0).toUpperCase() + s.slice(1);

/** The chart of the first condition with its threshold, and the time of firing marked. */
function Evidence({ alert: a }: { alert: Alert }) {
  const catalogue = useCatalogue();
  const clusters = useClusters();
  const range = useRange();
  const now = useNow();
  const labels = useMemo(() => alertLabels(a), [a]);
  const metric = evidenceMetric(a, catalogue.data ?? []);
  const panel = useMemo(() => (metric ? { group: metric.chart.group, title: metric.title, unit: metric.unit, metrics: [metric] } : undefined), [metric]);
  const condition = a.conditions[0];
  const wanted = evidenceRange(a.started_at, a.ended_at);
  const interval = clusters.data?.find((c) => c.id === a.object.cluster)?.interval_seconds ?? 30;
  if (!panel || !condition) return null;
  const state = a.severity === "critical" || a.severity === "warning" ? a.severity : "info";
  const start = instant(a.started_at);
  const marks: Mark[] = start === undefined ? [] : [{ from: start, to: instant(a.ended_at) ?? now, state }];
  return (
    <Section
      title="Evidence"
      right={
        <>
          <Button size="compact-xs" variant="default" renderRoot={(props) => <Link to="." search={(old) => ({ ...old, ...wanted })} {...props} />}>
            Time of the incident
          </Button>
          <Button
            size="compact-xs"
            variant="default"
            renderRoot={(props) => (
              <Link to="/logs" search={{ cluster: a.object.cluster, ...(a.object.namespace ? { namespace: a.object.namespace } : {}), ...(a.object.pod ? { pod: a.object.pod } : a.object.workload ? { workload: a.object.workload } : {}), ...wanted }} {...props} />
            )}
          >
            Logs of that time
          </Button>
        </>
      }
    >
      <ChartPanel
        cluster={a.object.cluster}
        panel={panel}
        title={`${panel.title}: ${objectWords(a)}`}
        object={labels}
        stepSeconds={chartStep(range, interval)}
        height={220}
        marks={marks}
        thresholds={[{ value: condition.threshold, state }]}
      />
    </Section>
  );
}

/** Warning and error lines and events around the beginning, before anyone has to look for them. */
function Around({ alert: a }: { alert: Alert }) {
  const now = useNow();
  const scope = logScope(a);
  const start = instant(a.started_at) ?? 0;
  const range = { from: toRFC3339(Math.floor(start - 900)), to: toRFC3339(Math.ceil(start + 300)) };
  const lines = useLogsOf(a.object.cluster, logsQuery(scope, "", "logs", "level:in(warn,warning,error,err,fatal,critical,panic)"), range, 12);
  const fixed = eventFilter(a);
  const { cluster, namespace } = a.object;
  const events = useLogsOf(cluster, logsQuery({ cluster, namespace }, "", "events", fixed), range, 12);
  const search = { ...scope, from: range.from, to: range.to };
  return (
    <>
      <Section
        title="Last warnings and errors"
        note={`from 15 min before to 5 min after`}
        right={
          <Link to="/logs" search={search} className={classes.strong}>
            All lines of that time
          </Link>
        }
      >
        {lines.error && !lines.data ? (
          <Failure what="Log lines" error={lines.error} />
        ) : !lines.data ? (
          <Skeleton height={80} radius={8} />
        ) : lines.data.length === 0 ? (
          <Card>
            <span className={classes.quiet}>No line of level warning or worse.</span>
          </Card>
        ) : (
          <LogLines rows={lines.data} wrap={false} />
        )}
      </Section>
      <Section title="Events" note="of the same time">
        <Card>
          {events.error && !events.data ? (
            <span className={classes.quiet}>{events.error.message}</span>
          ) : !events.data ? (
            <Skeleton height={40} />
          ) : events.data.length === 0 ? (
            <span className={classes.quiet}>Kubernetes reported none.</span>
          ) : (
            <ol className={classes.timeline}>
              {keyed(events.data).map(({ key, row }) => (
                <li key={key}>
                  <StateIcon state={row.type === "Warning" ? "warning" : "info"} />
                  <span className={classes.when}>{clock(rowTime(row), now, true)}</span>
                  <span>
                    <b>{row.reason}</b> <span className={classes.quiet}>{row.name}</span> {message(row)}
                  </span>
                </li>
              ))}
            </ol>
          )}
        </Card>
      </Section>
    </>
  );
}

function AlertCard({ alert: a }: { alert: Alert }) {
  const now = useNow();
  const firing = !a.ended_at;
  return (
    <Card>
      <div className={classes.alert}>
        <div className={classes.alertHead}>
          <StateLabel state={firing ? stateOf(a.severity) : "ok"}>{firing ? a.severity : "ended"}</StateLabel>
          <ObjectLink alert={a} />
          <span className={classes.quiet}>{whenWords(a.started_at, a.ended_at, now, (s) => clock(s, now))}</span>
          {a.stale ? <StateLabel state="stale">its source is silent</StateLabel> : null}
        </div>
        <p className={classes.explanation}>{a.explanation}</p>
        {a.conditions.map((c) => (
          <p key={c.metric} className={classes.quiet}>
            {c.statistic} over {c.period} of <code>{c.metric}</code> is {byUnit(c.value, c.unit)}; {c.op} {byUnit(c.threshold, c.unit)} in {c.need} of {c.of} periods
          </p>
        ))}
        {Object.entries(a.annotations).map(([name, value]) => (
          <p key={name}>
            <span className={classes.quiet}>{name.replace("_url", "")}: </span>
            {/^https?:\/\//.test(value) ? (
              <a href={value} target="_blank" rel="noreferrer">
                {value}
              </a>
            ) : (
              value
            )}
          </p>
        ))}
        <p className={classes.quiet}>
          Policy{" "}
          <Link to="/policies/$name" params={{ name: a.policy.name }} className={classes.strong}>
            {a.policy.name}
          </Link>
          , revision {a.policy.revision}
          {a.cause ? ` · ${causeWords(a.cause)}` : ""}
        </p>
      </div>
    </Card>
  );
}

function ObjectLink({ alert }: { alert: Alert }) {
  const { cluster, namespace = "", pod, workload, workload_type: type, node, level } = alert.object;
  const words = objectWords(alert);
  if ((level === "pod" || level === "container") && pod) return <PodLink cluster={cluster} namespace={namespace} pod={pod}>{words}</PodLink>;
  if (level === "workload" && workload && type) return <WorkloadLink cluster={cluster} namespace={namespace} type={type} name={workload}>{words}</WorkloadLink>;
  if (level === "node" && node) return <NodeLink cluster={cluster} node={node}>{words}</NodeLink>;
  return <ClusterLink cluster={cluster}>{words}</ClusterLink>;
}
