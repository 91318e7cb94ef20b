import { Button, Skeleton } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Alert } from "@/api/types";
import { incidents as m } from "@/i18n/incidents";
import { server } from "@/i18n/server";
import { DeliveryTable } from "@/parts/deliveries/DeliveryTable";
import { LogLines } from "@/parts/logs/LogLines";
import { keyed, logsQuery, message, rowTime } from "@/parts/logs/model";
import { useLogsOf } from "@/parts/logs/queries";
import { causeWords, incidentState, mutedWords } from "@/parts/incidents/model";
import { ClusterLink, NodeLink, PodLink, WorkloadLink } from "@/parts/objects/links";
import { ofPromql, whyDimensions, whyObject } from "@/parts/policies/model";
import { WhyView } from "@/parts/policies/WhyView";
import { OwnRange } from "@/parts/defaultRange";
import { Page } from "@/parts/page";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { byUnit, clock, instant, lineTime } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateIcon, StateLabel, stateOf } from "@/ui/state";
import { seconds, toRFC3339 } from "@/ui/time";
import { Actions } from "./Actions";
import { Evidence } from "./Evidence";
import classes from "./incidents.module.css";
import { useTimeline } from "@/parts/incidents/actions";
import { comparedWords, eventFilter, evidenceRange, firstOfEach, judgedSeconds, logScope, objectWords, timeline, type TimelineEntry, whenWords } from "./model";
import { useIncident } from "./queries";
import { Similar } from "./Similar";

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
  const { started_at: from, ended_at: to } = d?.incident ?? {};
  const judged = Math.max(0, ...alerts.map(judgedSeconds));
  const own = useMemo(() => (from === undefined ? undefined : evidenceRange(from, to, judged)), [from, to, judged]);
  return (
    <OwnRange value={own}>
      <Page
        crumbs={[
          <Link key="i" to="/incidents">
            {m.title}
          </Link>,
        ]}
        title={d ? server.alert(d.incident.title) : m.one}
        state={state === "idle" ? "ok" : state}
        loading={!d && !detail.error}
        sentence={
          d
            ? m.detail.sentence(d.incident.ended_at ? m.detail.was(severityWord(d.incident.severity)) : m.detail.is(severityWord(d.incident.severity)), whenWords(d.incident.started_at, d.incident.ended_at, now, (s) => clock(s, now)), causeWords(d.incident.cause))
            : undefined
        }
        aside={d ? <Actions incident={d.incident} /> : undefined}
      >
        {detail.error && !d ? (
          <Failure what={m.theIncident} error={detail.error} onRetry={() => void detail.refetch()} />
        ) : !d ? (
          <Skeleton height={320} radius={8} />
        ) : (
          <div className={classes.columns}>
            <div className={classes.left}>
              <Card>
                <Facts>
                  <Fact label={m.detail.severity}>
                    <StateLabel state={stateOf(d.incident.severity)}>{severityWord(d.incident.severity)}</StateLabel>
                  </Fact>
                  <Fact label={m.detail.cluster}>
                    <ClusterLink cluster={d.incident.cluster.id}>{d.incident.cluster.name || d.incident.cluster.id}</ClusterLink>
                  </Fact>
                  <Fact label={m.detail.acknowledged}>{d.incident.acknowledged_by ?? m.detail.byNobody}</Fact>
                  {d.incident.assignee ? <Fact label={m.detail.assigned}>{d.incident.assignee}</Fact> : null}
                  {d.incident.muted_by.length > 0 ? (
                    <Fact label={m.detail.muted}>
                      <StateLabel state="stale">{mutedWords(d.incident.muted_by, now)}</StateLabel>
                    </Fact>
                  ) : null}
                  {d.incident.reopened > 0 ? <Fact label={m.detail.reopened}>{m.detail.times(d.incident.reopened)}</Fact> : null}
                </Facts>
              </Card>
              <Section title={m.detail.happened}>
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
                    <p className={classes.quiet}>{m.detail.noneTold}</p>
                  ) : null}
                </Card>
              </Section>
            </div>
            <div className={classes.right}>
              {alerts.length === 0 ? <Empty title={m.detail.noAlert} /> : null}
              <Evidence alerts={firstOfEach(alerts)} />
              {first ? <Explained alert={first} /> : null}
              {first ? <Around alert={first} /> : null}
              <Section title={m.detail.alerts} note={alerts.length > 1 ? String(alerts.length) : undefined}>
                {alerts.map((a) => (
                  <AlertCard key={a.id} alert={a} />
                ))}
              </Section>
              <Section title={m.detail.notifications} note={String(d.deliveries.length)}>
                <DeliveryTable deliveries={d.deliveries} sort={sort} onSort={setSort} withIncident={false} empty={m.detail.noneTold} />
              </Section>
              {first ? <Similar incident={d.incident.id} alert={first} /> : null}
            </div>
          </div>
        )}
      </Page>
    </OwnRange>
  );
}

const severityWord = (severity: string): string => m.severity[severity] ?? severity;

/** Why the first alert began, judged again as of that time. */
function Explained({ alert: a }: { alert: Alert }) {
  const at = toRFC3339(Math.floor(instant(a.started_at) ?? 0));
  const question = { policy: a.policy.name, cluster: a.object.cluster, object: whyObject({ ...a.object }, ofPromql(a)), dimensions: whyDimensions(a.dimensions), at };
  const [open, setOpen] = useState(false);
  return (
    <Section
      title={m.detail.why}
      right={
        <Link to="/policies/$name" params={{ name: a.policy.name }} search={{ cluster: question.cluster, object: question.object, dimensions: question.dimensions, at }} className={classes.strong}>
          {m.detail.whyElse}
        </Link>
      }
    >
      <Card>
        {open ? (
          <WhyView question={question} />
        ) : (
          <Button size="compact-xs" variant="default" onClick={() => setOpen(true)}>
            {m.detail.explain}
          </Button>
        )}
      </Card>
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
        title={m.detail.lines}
        note={m.detail.linesNote}
        right={
          <Link to="/logs" search={search} className={classes.strong}>
            {m.detail.allLines}
          </Link>
        }
      >
        {lines.error && !lines.data ? (
          <Failure what={m.detail.theLines} error={lines.error} />
        ) : !lines.data ? (
          <Skeleton height={80} radius={8} />
        ) : lines.data.length === 0 ? (
          <Card>
            <span className={classes.quiet}>{m.detail.noLine}</span>
          </Card>
        ) : (
          <LogLines rows={lines.data} wrap={false} />
        )}
      </Section>
      <Section title={m.detail.events} note={m.detail.eventsNote}>
        <Card>
          {events.error && !events.data ? (
            <span className={classes.quiet}>{events.error.message}</span>
          ) : !events.data ? (
            <Skeleton height={40} />
          ) : events.data.length === 0 ? (
            <span className={classes.quiet}>{m.detail.noEvent}</span>
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
          <StateLabel state={firing ? stateOf(a.severity) : "ok"}>{firing ? severityWord(a.severity) : m.detail.ended}</StateLabel>
          <ObjectLink alert={a} />
          <span className={classes.quiet}>{whenWords(a.started_at, a.ended_at, now, (s) => clock(s, now))}</span>
          {a.stale ? <StateLabel state="stale">{m.detail.stale}</StateLabel> : null}
        </div>
        <p className={classes.explanation}>{server.alert(a.explanation)}</p>
        {a.conditions.map((c) => (
          <p key={c.metric || c.expr || c.query} className={classes.quiet}>
            {c.expr || c.query ? m.detail.exprCondition(c.expr || c.query || "", byUnit(c.value, c.unit)) : m.detail.condition(c.statistic, c.period, [c.metric, comparedWords(c, seconds(c.period) ?? 0)].filter(Boolean).join(" "), byUnit(c.value, c.unit), c.op, byUnit(c.threshold, c.unit), c.need, c.of)}
          </p>
        ))}
        {Object.entries(a.annotations).map(([name, value]) => (
          <p key={name}>
            <span className={classes.quiet}>{m.detail.annotation(name.replace("_url", ""))}: </span>
            {/^https?:\/\//.test(value) ? (
              <a href={value} target="_blank" rel="noreferrer">
                {value}
              </a>
            ) : (
              server.alert(value)
            )}
          </p>
        ))}
        <p className={classes.quiet}>
          {m.detail.policy}{" "}
          <Link to="/policies/$name" params={{ name: a.policy.name }} className={classes.strong}>
            {a.policy.name}
          </Link>
          , {m.detail.revision(a.policy.revision)}
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
