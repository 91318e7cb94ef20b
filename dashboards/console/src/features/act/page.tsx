import { Button, NumberInput, Skeleton, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";
import { body, client } from "@/api/client";
import { keys } from "@/api/keys";
import { act as m } from "@/i18n/act";
import { incidents } from "@/i18n/incidents";
import { Page } from "@/parts/page";
import { Card, Fact, Facts } from "@/ui/Bits";
import { clock, dateTime, instant } from "@/ui/format";
import { Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel, stateOf } from "@/ui/state";
import classes from "./act.module.css";

const route = getRouteApi("/act/$ticket");

/** What a link in a notification would do. It does it when somebody confirms, so that programs that follow links do nothing. */
export function ActPage() {
  const { ticket } = route.useParams();
  const queries = useQueryClient();
  const now = useNow();
  const [comment, setComment] = useState("");
  const [hours, setHours] = useState(4);
  const params = { path: { ticket } };
  const link = useQuery({
    queryKey: keys.ticket(ticket),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/tickets/{ticket}", { params, signal })),
    retry: false,
  });
  const use = useMutation({
    mutationFn: (silence: boolean) => body(client.POST("/apis/crowsnest.dev/v1/tickets/{ticket}", { params, body: { ...(comment.trim() === "" ? {} : { comment: comment.trim() }), ...(silence ? { hours } : {}) } })),
    onSuccess: (answer) => queries.setQueryData(keys.ticket(ticket), answer),
  });
  const t = link.data;
  return (
    <Page title={t ? m.title[t.action] : m.loading} loading={!t && !link.error}>
      {link.error && !t ? (
        <Failure what={m.what} error={link.error} />
      ) : !t ? (
        <Skeleton height={200} radius={8} />
      ) : (
        <Card>
          <div className={classes.stack}>
            <p className={classes.title}>{t.incident.title}</p>
            <Facts>
              <Fact label={m.severity}>
                <StateLabel state={stateOf(t.incident.severity)}>{incidents.severity[t.incident.severity]}</StateLabel>
              </Fact>
              <Fact label={m.cluster}>{t.incident.cluster.name || t.incident.cluster.id}</Fact>
              <Fact label={m.since}>{clock(instant(t.incident.started_at) ?? now, now)}</Fact>
              <Fact label={m.told}>{t.target}</Fact>
              <Fact label={m.until}>{dateTime(instant(t.expires_at) ?? now)}</Fact>
            </Facts>
            {t.incident.ended_at === null ? null : <StateLabel state="ok">{m.resolved}</StateLabel>}
            {use.isSuccess ? (
              <StateLabel state="ok">{m.done[t.action]}</StateLabel>
            ) : t.used ? (
              <StateLabel state="stale">{m.used}</StateLabel>
            ) : (
              <form
                className={classes.stack}
                onSubmit={(e) => {
                  e.preventDefault();
                  use.mutate(t.action === "silence");
                }}
              >
                <p className={classes.quiet}>{t.action === "silence" ? m.silenceText : m.acknowledgeText}</p>
                {t.action === "silence" ? (
                  <>
                    <p>
                      {m.mutes}: <code>{t.matchers.join(", ")}</code>
                    </p>
                    <NumberInput label={m.hours} min={0.25} max={168} value={hours} onChange={(h) => typeof h === "number" && setHours(h)} />
                  </>
                ) : null}
                <TextInput label={m.comment} maxLength={4096} value={comment} onChange={(e) => setComment(e.currentTarget.value)} />
                <div>
                  <Button type="submit" loading={use.isPending}>
                    {t.action === "silence" ? m.silence : m.acknowledge}
                  </Button>
                </div>
              </form>
            )}
            {use.error ? <StateLabel state="critical">{use.error.message}</StateLabel> : null}
            <Link to="/incidents/$id" params={{ id: t.incident.id }}>
              {m.toIncident}
            </Link>
          </div>
        </Card>
      )}
    </Page>
  );
}
