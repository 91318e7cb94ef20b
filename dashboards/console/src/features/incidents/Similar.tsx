import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { Alert } from "@/api/types";
import { incidents as m } from "@/i18n/incidents";
import { server } from "@/i18n/server";
import { causeWords, incidentState } from "@/parts/incidents/model";
import { Card, Section } from "@/ui/Bits";
import { clock, duration, instant } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateIcon } from "@/ui/state";
import classes from "./incidents.module.css";
import { useIncidentSearch } from "./queries";

/** What the same policy found before, those of the same object first, with how it ended. */
export function Similar({ incident, alert: a }: { incident: string; alert: Alert }) {
  const found = useIncidentSearch({ state: "all", policy: a.policy.name }, 50);
  const now = useNow();
  const name = a.object.workload ?? a.object.node ?? a.object.pod;
  const others = (found.data?.pages.flatMap((p) => p.items) ?? []).filter((i) => i.id !== incident);
  const same = (i: (typeof others)[number]) => name !== undefined && (i.object.workload ?? i.object.node ?? i.object.pod) === name && i.cluster.id === a.object.cluster;
  const shown = [...others.filter(same), ...others.filter((i) => !same(i))].slice(0, 6);
  return (
    <Section
      title={m.detail.similar}
      note={m.detail.similarNote(a.policy.name)}
      right={
        <Link to="/incidents" search={{ policy: a.policy.name, state: "all" }} className={classes.strong}>
          {m.detail.allSimilar}
        </Link>
      }
    >
      <Card>
        {found.error && !found.data ? (
          <Failure what={m.detail.theSimilar} error={found.error} />
        ) : !found.data ? (
          <Skeleton height={60} />
        ) : shown.length === 0 ? (
          <span className={classes.quiet}>{m.detail.noSimilar}</span>
        ) : (
          <ul className={classes.similar} aria-label={m.detail.similar}>
            {shown.map((i) => {
              const start = instant(i.started_at) ?? now;
              return (
                <li key={i.id}>
                  <StateIcon state={incidentState(i)} />
                  <Link to="/incidents/$id" params={{ id: i.id }}>
                    {server.alert(i.title)}
                  </Link>
                  <span className={classes.quiet}>
                    {clock(start, now)} · {duration((instant(i.ended_at) ?? now) - start)}
                    {i.cause ? ` · ${causeWords(i.cause)}` : ""}
                  </span>
                </li>
              );
            })}
          </ul>
        )}
      </Card>
    </Section>
  );
}
