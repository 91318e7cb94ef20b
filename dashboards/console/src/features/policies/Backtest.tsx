import { Button, Progress, SegmentedControl } from "@mantine/core";
import { IconPlayerPlay, IconPlayerStop } from "@tabler/icons-react";
import { useState } from "react";
import { policies as m } from "@/i18n/policies";
import { server } from "@/i18n/server";
import { useBacktest } from "@/parts/policies/queries";
import { Card, Section } from "@/ui/Bits";
import { byUnit, clock, duration, instant, percent } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { type Backtest as Job, ended, type Lane, lanes, longestSeconds, type Replay } from "./backtest";
import { type Draft, severities, toPolicy, withCondition } from "./draft";
import classes from "./policies.module.css";

const choices = [1, 7, 30, 90] as const;
const shownLanes = 24;

/** What the policy would have said over the past, and how that differs from the saved version. */
export function Backtest({ draft, saved, ready, onChange }: { draft: Draft; saved?: Draft | undefined; ready: boolean; onChange?: ((draft: Draft) => void) | undefined }) {
  const [days, setDays] = useState(7);
  const [tried, setTried] = useState("");
  const test = useBacktest();
  const text = JSON.stringify([draft.spec, days]);
  const job = test.job;
  const busy = test.starting || (job !== undefined && !ended(job));
  const run = () => {
    setTried(text);
    // A new draft is replayed as it stands; of one that changes what is saved, both are, and compared.
    const differs = saved !== undefined && JSON.stringify(saved.spec) !== JSON.stringify(draft.spec);
    test.start({
      draft: toPolicy({ ...draft, revision: undefined }),
      ...(differs ? { against: toPolicy({ ...saved, revision: undefined }) } : {}),
      from: new Date(Date.now() - days * 86_400_000).toISOString(),
    });
  };
  return (
    <Section title={m.backtest.title} note={m.backtest.note}>
      <Card>
        <div className={classes.trial}>
          <div className={classes.row}>
            <SegmentedControl size="xs" aria-label={m.backtest.range} value={String(days)} onChange={(v) => setDays(Number(v))} data={choices.map((n) => ({ value: String(n), label: m.backtest.days(n) }))} disabled={busy} />
            {busy ? (
              <Button size="xs" variant="default" leftSection={<IconPlayerStop size={14} />} onClick={test.cancel}>
                {m.backtest.cancel}
              </Button>
            ) : (
              <Button size="xs" leftSection={<IconPlayerPlay size={14} />} disabled={!ready} onClick={run}>
                {job ? m.backtest.again : m.backtest.run}
              </Button>
            )}
            {job?.state === "done" && tried !== text ? <StateLabel state="stale">{m.backtest.outdated}</StateLabel> : null}
          </div>
          <div aria-live="polite">
            {test.error ? <StateLabel state="critical">{test.error.message}</StateLabel> : null}
            {job ? <Outcome job={job} draft={draft} onChange={onChange} /> : null}
          </div>
        </div>
      </Card>
    </Section>
  );
}

function Outcome({ job, draft, onChange }: { job: Job; draft: Draft; onChange: ((draft: Draft) => void) | undefined }) {
  switch (job.state) {
    case "queued":
      return <p className={classes.quiet}>{m.backtest.queued}</p>;
    case "running":
      return (
        <>
          <Progress.Root size="md">
            <Progress.Section value={job.progress * 100} aria-label={m.backtest.progress} />
          </Progress.Root>
          <p className={classes.quiet}>{m.backtest.running(percent(job.progress * 100))}</p>
        </>
      );
    case "cancelled":
      return <p className={classes.quiet}>{m.backtest.cancelled}</p>;
    case "failed":
      return (
        <StateLabel state="critical">
          {m.backtest.failed}: {job.error}
        </StateLabel>
      );
    case "done":
      return <Results job={job} draft={draft} onChange={onChange} />;
  }
}

function Results({ job, draft, onChange }: { job: Job; draft: Draft; onChange: ((draft: Draft) => void) | undefined }) {
  const [result, before] = job.results;
  if (!result) return null;
  const end = instant(job.to) ?? 0;
  const start = instant(job.from) ?? 0;
  const own = lanes(result, end, m.trial.in);
  const old = before ? lanes(before, end, m.trial.in) : undefined;
  const longest = longestSeconds(result, end);
  const { messages } = result;
  const less = before ? before.incidentCount - result.incidentCount : 0;
  const shownIncidents = result.incidents.length;
  return (
    <div className={classes.trial}>
      <p className={classes.spoken}>
        <StateLabel state={result.incidentCount === 0 ? "ok" : "info"}>
          {result.incidentCount === 0 ? m.backtest.nothing : m.backtest.summary(result.incidentCount, result.messageCount, longest === undefined ? "" : duration(longest))}
        </StateLabel>
      </p>
      {before ? (
        <p>
          {m.backtest.saved(before.incidentCount, before.messageCount)} <b>{less === 0 ? m.backtest.same : less > 0 ? m.backtest.fewer(less) : m.backtest.more(-less)}</b>
        </p>
      ) : null}
      {own.length > 0 || (old?.length ?? 0) > 0 ? <Lanes own={own} old={old} start={start} end={end} /> : null}
      <p className={classes.quiet}>
        {m.backtest.judged(result.objects, result.steps)} {shownIncidents < result.incidentCount ? m.backtest.truncated(shownIncidents, result.incidentCount) : ""} {result.masked > 0 ? m.backtest.masked(result.masked) : ""}
      </p>
      {result.incidentCount > 0 ? (
        messages.length === 0 ? (
          <StateLabel state="warning">{m.backtest.noMessages}</StateLabel>
        ) : (
          <p className={classes.quiet}>{messages.map((x) => m.backtest.messagesTo(x.count, x.type.replace("incident.", ""), x.target)).join("; ")}</p>
        )
      ) : null}
      {result.clusters.map((c) =>
        c.reason ? (
          <StateLabel key={c.cluster} state="stale">
            {m.backtest.notOn(c.cluster, c.reason)}
          </StateLabel>
        ) : null,
      )}
      {result.reason ? <StateLabel state="stale">{result.reason}</StateLabel> : null}
      <Suggestions result={result} draft={draft} onChange={onChange} />
    </div>
  );
}

/** The spread of the values that were looked at, and the thresholds that would be rare but not never. */
function Suggestions({ result, draft, onChange }: { result: Replay; draft: Draft; onChange: ((draft: Draft) => void) | undefined }) {
  const all = result.thresholds.filter((t) => t.values > 0);
  if (all.length === 0) return null;
  return (
    <ul className={classes.trialList}>
      {all.map((t) => {
        const given = severities.flatMap((s) => (t.suggested[s] === undefined ? [] : [{ severity: s, value: t.suggested[s] }]));
        return (
          <li key={`${t.cluster} ${t.condition}`}>
            <span>
              {t.cluster}: {m.backtest.spread(byUnit(t.p50, t.unit), byUnit(t.p99, t.unit), byUnit(t.max, t.unit))}.{" "}
              {given.length === 0 ? null : `${m.backtest.suggestion} ${given.map((g) => m.backtest.suggested(byUnit(g.value, t.unit), m.severity[g.severity] ?? g.severity)).join(", ")}`}
            </span>
            {onChange && given.length > 0 && draft.spec.conditions?.[t.condition] ? (
              <Button size="compact-xs" variant="default" onClick={() => onChange(withCondition(draft, t.condition, { thresholds: t.suggested }))}>
                {m.backtest.take}
              </Button>
            ) : null}
          </li>
        );
      })}
    </ul>
  );
}

/** A lane for each object; of a change, what the saved version said lies below as an outline. */
function Lanes({ own, old, start, end }: { own: readonly Lane[]; old: readonly Lane[] | undefined; start: number; end: number }) {
  const now = useNow();
  const names = [...new Set([...own, ...(old ?? [])].map((l) => l.name))];
  const shown = names.slice(0, shownLanes);
  const at = (s: number) => (100 * Math.max(0, Math.min(end, s) - start)) / (end - start);
  const bars = (lane: Lane | undefined, kind: string) =>
    (lane?.bars ?? []).map((b) => {
      const severity = m.severity[b.severity] ?? b.severity;
      const words = `${kind === "" ? "" : `${kind}: `}${m.backtest.alert(severity, clock(b.from, now), b.open ? m.backtest.open : duration(b.to - b.from), byUnit(b.peak, b.unit))}`;
      return <span key={`${b.from} ${b.severity}`} role="img" aria-label={words} title={`${words}\n${server.alert(b.explanation)}`} className={classes.bar} data-severity={b.severity} style={{ left: `${at(b.from)}%`, width: `max(3px, ${at(b.to) - at(b.from)}%)` }} />;
    });
  return (
    <div className={classes.lanes} role="list" aria-label={m.backtest.lanes}>
      {shown.map((name) => (
        <div key={name} role="listitem" className={classes.lane}>
          <span className={classes.laneName} title={name}>
            {name}
          </span>
          <div className={classes.tracks}>
            <div className={classes.track}>{bars(own.find((l) => l.name === name), old ? m.backtest.newLane : "")}</div>
            {old ? (
              <div className={classes.track} data-saved>
                {bars(old.find((l) => l.name === name), m.backtest.savedLane)}
              </div>
            ) : null}
          </div>
        </div>
      ))}
      <div className={classes.laneTimes} aria-hidden>
        <span>{clock(start, now)}</span>
        <span>{clock((start + end) / 2, now)}</span>
        <span>{clock(end, now)}</span>
      </div>
      {names.length > shown.length ? <p className={classes.quiet}>{m.backtest.moreLanes(names.length - shown.length)}</p> : null}
    </div>
  );
}
