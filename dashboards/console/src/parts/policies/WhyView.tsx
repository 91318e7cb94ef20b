import { Skeleton } from "@mantine/core";
import { policies as m } from "@/i18n/policies";
import { server } from "@/i18n/server";
import { byUnit, clock, instant } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { type State, StateLabel, stateOf } from "@/ui/state";
import { useWhy, type Why, type WhyQuestion } from "./queries";
import classes from "./why.module.css";

const windowsShown = 60;

function outcomeState(w: Why): State {
  if (!w.judged) return "stale";
  if (w.outcome === "ok" || w.outcome === "ends") return "ok";
  return stateOf(w.after.severity ?? "info");
}

/** Why a policy did or did not fire for an object: what was compared, what was before, what came of it. */
export function WhyView({ question }: { question: WhyQuestion }) {
  const why = useWhy(question);
  const now = useNow();
  const w = why.data;
  if (why.error && !w) return <Failure what={m.why.what} error={why.error} onRetry={() => void why.refetch()} />;
  if (!w) return <Skeleton height={120} radius={8} />;
  const time = (t: string | undefined) => clock(instant(t) ?? now, now, true);
  const severity = (s: string | undefined) => (s === undefined || s === "" ? m.why.notFiring : (m.severity[s] ?? s));
  const state = (s: Why["before"]) => {
    const closed = s.latches.filter((l) => l.closed);
    return closed.length === 0 ? severity(s.severity) : closed.map((l) => (l.since ? m.why.since(severity(l.severity), time(l.since)) : severity(l.severity))).join(", ");
  };
  return (
    <div className={classes.why} aria-live="polite">
      <p>
        <StateLabel state={outcomeState(w)}>{m.why.outcomes[w.outcome] ?? w.outcome}</StateLabel>{" "}
        <span className={classes.quiet}>
          {m.why.asked(`${question.object || question.cluster}${question.dimensions === "" ? "" : ` ${question.dimensions}`}`, time(w.at))}, {m.why.revision(w.revision)}
        </span>
      </p>
      <p className={classes.words}>{server.alert(w.words)}</p>
      {w.reason ? <StateLabel state="stale">{server.alert(w.reason)}</StateLabel> : null}
      {w.conditions.map((c, i) => (
        <section key={i} aria-label={m.why.conditions}>
          <p>
            {server.alert(c.words)} <b>{c.lacking ? m.why.lacking : c.holds.length > 0 ? c.holds.map((s) => m.why.holds(severity(s))).join(", ") : m.why.holdsNot}</b>
          </p>
          <ol className={classes.windows} aria-label={m.why.windows}>
            {c.windows.slice(0, windowsShown).map((x) => (
              <li key={x.end} className={classes.window} data-bad={x.bad || undefined} title={time(x.end)}>
                <span className={classes.end}>{clock(instant(x.end) ?? now, now)}</span> {x.value === null ? m.why.missing : byUnit(x.value, c.unit)}
                {x.bad ? ` · ${severity(x.bad)}` : ""}
              </li>
            ))}
          </ol>
        </section>
      ))}
      <dl className={classes.states}>
        <dt>{m.why.before}</dt>
        <dd>{state(w.before)}</dd>
        <dt>{m.why.after}</dt>
        <dd>{state(w.after)}</dd>
        {w.recorded.length > 0 ? (
          <>
            <dt>{m.why.recorded}</dt>
            <dd>{w.recorded.map((a) => m.why.alert(severity(a.severity), time(a.startedAt), a.endedAt ? time(a.endedAt) : "")).join("; ")}</dd>
          </>
        ) : null}
      </dl>
    </div>
  );
}
