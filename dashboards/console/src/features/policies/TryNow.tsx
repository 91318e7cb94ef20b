import { Skeleton } from "@mantine/core";
import { useEffect } from "react";
import { RequestError } from "@/api/problem";
import { policies as m } from "@/i18n/policies";
import { server } from "@/i18n/server";
import { Card, Section } from "@/ui/Bits";
import { byUnit, clock, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { objectName } from "./backtest";
import { type Draft, severities } from "./draft";
import classes from "./policies.module.css";
import { useTrial } from "./queries";

const shown = 8;

/** What the draft would do at this moment, judged by the server as it judges policies. */
export function TryNow({ draft, ready, onWrong }: { draft: Draft; ready: boolean; onWrong: (fields: RequestError["fields"]) => void }) {
  const trial = useTrial(draft);
  const now = useNow();
  const error = trial.error;
  const fields = error instanceof RequestError ? error.fields : undefined;
  useEffect(() => onWrong(fields ?? []), [fields, onWrong]);
  const status = trial.data?.status;
  const trials = status?.trial ?? [];
  const objects = trials.flatMap((t) => t.objects);
  const firing = severities.map((s) => ({ severity: s, n: objects.filter((o) => o.severity === s).length })).reverse();
  const bad = objects.filter((o) => o.severity !== undefined);
  const matching = trials.reduce((sum, t) => sum + t.matching, 0);
  const [first] = trials;
  return (
    <Section title={m.trial.title} note={first && !error ? m.trial.asOf(clock(instant(first.at) ?? now, now, true)) : undefined}>
      <Card>
        {error ? (
          <div role="status">
            <StateLabel state="warning">{ready ? m.trial.notYet : m.trial.incomplete}</StateLabel>
            <ul className={classes.gaps}>{fields && fields.length > 0 ? fields.map((f) => <li key={f.location + f.message}>{`${f.location.replace(/^body\.(spec\.)?/, "")}: ${f.message}`}</li>) : <li>{error.message}</li>}</ul>
          </div>
        ) : !status ? (
          <Skeleton height={40} />
        ) : (
          <div className={classes.trial}>
            <div className={classes.previewHead}>
              <b>{m.trial.judged(matching)}</b>
              {bad.length === 0 ? (
                <StateLabel state="ok">{m.trial.none}</StateLabel>
              ) : (
                firing
                  .filter((f) => f.n > 0)
                  .map((f) => (
                    <StateLabel key={f.severity} state={f.severity}>
                      {m.trial.some(f.n, m.severity[f.severity] ?? f.severity)}
                    </StateLabel>
                  ))
              )}
            </div>
            {bad.length > 0 ? (
              <ul className={classes.trialList}>
                {bad.slice(0, shown).map((o) => (
                  <li key={JSON.stringify([o.object, o.dimensions])}>
                    <StateLabel state={o.severity ?? "info"}>{objectName(o.object, o.dimensions, m.trial.in)}</StateLabel>
                    <span className={classes.quiet}>{o.explanation ? server.alert(o.explanation) : o.conditions.map((c) => byUnit(c.value, c.unit)).join(", ")}</span>
                  </li>
                ))}
                {bad.length > shown ? <li className={classes.quiet}>{m.trial.more(bad.length - shown)}</li> : null}
              </ul>
            ) : null}
            {[...(status.reasons ?? []).map(server.alert), ...trials.flatMap((t) => (t.reason ? [`${t.cluster}: ${server.alert(t.reason)}`] : []))].map((r) => (
              <p key={r} className={classes.quiet}>
                {r}
              </p>
            ))}
          </div>
        )}
      </Card>
    </Section>
  );
}
