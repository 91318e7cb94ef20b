import { Button, Modal } from "@mantine/core";
import { IconSend } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { body, client } from "@/api/client";
import type { Delivery } from "@/api/types";
import { incidents as m } from "@/i18n/incidents";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, clock, count, duration, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, type State, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./deliveries.module.css";

export function deliveryState(d: Delivery): State {
  if (d.state === "delivered") return "ok";
  if (d.state === "dead") return "critical";
  if (d.state === "superseded" || d.state === "skipped") return "idle";
  return d.last_error === "" ? "waiting" : "warning";
}

/** What a notification is, in words. */
export const typeWords = (type: string): string => {
  const name = type.replace("incident.", "");
  return m.deliveries.types[name] ?? name;
};

interface Props {
  readonly deliveries: readonly Delivery[];
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
  /** Left out where all belong to one incident. */
  readonly withIncident: boolean;
  readonly empty: string;
}

/** Notifications and their attempts: one can be opened, and sent again. */
export function DeliveryTable({ deliveries, sort, onSort, withIncident, empty }: Props) {
  const now = useNow();
  const [open, setOpen] = useState<string | undefined>();
  const columns = useMemo(() => columnsOf(now, withIncident, setOpen), [now, withIncident]);
  const shown = deliveries.find((d) => d.id === open);
  return (
    <>
      <DataTable
        label={m.deliveries.label}
        columns={columns}
        rows={deliveries}
        rowKey={(d) => d.id}
        sort={parseSort(sort, { column: "created", descending: true })}
        onSort={(s) => onSort(sortText(s))}
        dim={(d) => deliveryState(d) === "idle"}
        empty={empty}
      />
      <Modal opened={shown !== undefined} onClose={() => setOpen(undefined)} size="lg" title={shown ? m.deliveries.title(typeWords(shown.type), shown.target) : ""}>
        {shown ? <Attempts delivery={shown} /> : null}
      </Modal>
    </>
  );
}

function columnsOf(now: number, withIncident: boolean, open: (id: string) => void): Column<Delivery>[] {
  return [
    { id: "state", header: m.deliveries.state, width: "112px", phoneWidth: "92px", sort: (d) => rank(deliveryState(d)), cell: (d) => <StateLabel state={deliveryState(d)}>{m.deliveries.states[d.state]}</StateLabel> },
    { id: "target", header: m.deliveries.target, width: "minmax(90px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (d) => d.target, cell: (d) => d.target },
    { id: "type", header: m.deliveries.what, width: "110px", phoneWidth: "72px", sort: (d) => d.type, cell: (d) => typeWords(d.type) },
    ...(withIncident
      ? [
          {
            id: "incident",
            header: m.deliveries.incident,
            wide: true,
            width: "minmax(120px, 3fr)",
            sort: (d: Delivery) => d.title,
            cell: (d: Delivery) =>
              // A test or a heartbeat belongs to no incident.
              d.incident.startsWith("inc_") ? (
                <Link to="/incidents/$id" params={{ id: d.incident }} title={d.title}>
                  {d.title || d.incident}
                </Link>
              ) : (
                <span title={d.title}>{d.title}</span>
              ),
          },
        ]
      : []),
    { id: "created", header: m.deliveries.made, numeric: true, wide: true, width: "84px", sort: (d) => instant(d.created_at), cell: (d) => age(d.created_at, now) },
    { id: "attempts", header: m.deliveries.attempts, numeric: true, wide: true, width: "80px", sort: (d) => d.attempts, cell: (d) => count(d.attempts) },
    { id: "error", header: m.deliveries.error, wide: true, width: "minmax(60px, 2fr)", cell: (d) => <span title={d.last_error}>{d.state === "delivered" ? "" : d.last_error}</span> },
    {
      id: "open",
      header: "",
      width: "64px",
      phoneWidth: "56px",
      cell: (d) => (
        <Button size="compact-xs" variant="default" onClick={() => open(d.id)} aria-label={m.deliveries.openLabel(typeWords(d.type), d.target)}>
          {m.deliveries.open}
        </Button>
      ),
    },
  ];
}

function Attempts({ delivery: d }: { delivery: Delivery }) {
  const now = useNow();
  const queries = useQueryClient();
  const resend = useMutation({
    mutationFn: ({ id, asNew }: { id: string; asNew: boolean }) => body(client.POST("/apis/crowsnest.dev/v1/deliveries/{id}/resend", { params: { path: { id }, query: asNew ? { asNew } : {} } })),
    onSuccess: () => Promise.all([queries.invalidateQueries({ queryKey: ["deliveries"] }), queries.invalidateQueries({ queryKey: ["incident"] })]),
  });
  return (
    <div className={classes.attempts}>
      <p>
        <StateLabel state={deliveryState(d)}>{m.deliveries.states[d.state]}</StateLabel> {d.next_at ? m.deliveries.next(duration((instant(d.next_at) ?? now) - now)) : ""}
      </p>
      {d.copy_of ? <p className={classes.quiet}>{m.deliveries.copyOf(d.copy_of)}</p> : null}
      {d.log.length === 0 ? <p className={classes.quiet}>{m.deliveries.noAttempt}</p> : null}
      <ol>
        {d.log.map((a) => (
          <li key={a.at}>
            <StateLabel state={a.result === "delivered" ? "ok" : a.result === "final" ? "critical" : "warning"}>{clock(instant(a.at) ?? 0, now, true)}</StateLabel>
            <span>
              {m.deliveries.after(a.status > 0 ? m.deliveries.status(a.status) : m.deliveries.noAnswer, a.took_seconds < 1 ? m.deliveries.milliseconds(Math.round(a.took_seconds * 1000)) : duration(a.took_seconds), a.error)}
              <Detail what={m.deliveries.request} text={a.request} />
              <Detail what={m.deliveries.response} text={a.response} />
            </span>
          </li>
        ))}
      </ol>
      <div className={classes.row}>
        <Button size="xs" variant="default" leftSection={<IconSend size={14} />} loading={resend.isPending && !resend.variables.asNew} onClick={() => resend.mutate({ id: d.id, asNew: false })}>
          {m.deliveries.again}
        </Button>
        <Button size="xs" variant="default" title={m.deliveries.asNewHelp} loading={resend.isPending && resend.variables.asNew} onClick={() => resend.mutate({ id: d.id, asNew: true })}>
          {m.deliveries.asNew}
        </Button>
        {resend.isSuccess ? <StateLabel state="ok">{m.deliveries.willBeSent}</StateLabel> : null}
        {resend.error ? <StateLabel state="critical">{resend.error.message}</StateLabel> : null}
      </div>
    </div>
  );
}

/** What was sent or answered, word for word; closed, as it is long. */
const Detail = ({ what, text }: { what: string; text: string }) =>
  text === "" ? null : (
    <details>
      <summary>{what}</summary>
      <pre className={classes.raw}>{text}</pre>
    </details>
  );
