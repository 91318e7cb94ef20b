import { Button, Modal } from "@mantine/core";
import { IconSend } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { body, client } from "@/api/client";
import type { Delivery } from "@/api/types";
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

const words: Record<Delivery["state"], string> = { pending: "waiting", delivered: "delivered", dead: "given up", superseded: "superseded", skipped: "skipped" };

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
        label="deliveries"
        columns={columns}
        rows={deliveries}
        rowKey={(d) => d.id}
        sort={parseSort(sort, { column: "created", descending: true })}
        onSort={(s) => onSort(sortText(s))}
        dim={(d) => deliveryState(d) === "idle"}
        empty={empty}
      />
      <Modal opened={shown !== undefined} onClose={() => setOpen(undefined)} size="lg" title={shown ? `${shown.type.replace("incident.", "")} to ${shown.target}` : ""}>
        {shown ? <Attempts delivery={shown} /> : null}
      </Modal>
    </>
  );
}

function columnsOf(now: number, withIncident: boolean, open: (id: string) => void): Column<Delivery>[] {
  return [
    { id: "state", header: "State", width: "112px", phoneWidth: "92px", sort: (d) => rank(deliveryState(d)), cell: (d) => <StateLabel state={deliveryState(d)}>{words[d.state]}</StateLabel> },
    { id: "target", header: "Target", width: "minmax(90px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (d) => d.target, cell: (d) => d.target },
    { id: "type", header: "What", width: "110px", phoneWidth: "72px", sort: (d) => d.type, cell: (d) => d.type.replace("incident.", "") },
    ...(withIncident
      ? [
          {
            id: "incident",
            header: "Incident",
            wide: true,
            width: "minmax(90px, 1fr)",
            cell: (d: Delivery) =>
              d.incident === "" ? (
                ""
              ) : (
                <Link to="/incidents/$id" params={{ id: d.incident }}>
                  {d.incident}
                </Link>
              ),
          },
        ]
      : []),
    { id: "created", header: "Made", numeric: true, wide: true, width: "84px", sort: (d) => instant(d.created_at), cell: (d) => age(d.created_at, now) },
    { id: "attempts", header: "Attempts", numeric: true, wide: true, width: "80px", sort: (d) => d.attempts, cell: (d) => count(d.attempts) },
    { id: "error", header: "Last error", wide: true, width: "minmax(60px, 2fr)", cell: (d) => <span title={d.last_error}>{d.state === "delivered" ? "" : d.last_error}</span> },
    {
      id: "open",
      header: "",
      width: "64px",
      phoneWidth: "56px",
      cell: (d) => (
        <Button size="compact-xs" variant="default" onClick={() => open(d.id)} aria-label={`Open the attempts of ${d.type} to ${d.target}`}>
          Open
        </Button>
      ),
    },
  ];
}

function Attempts({ delivery: d }: { delivery: Delivery }) {
  const now = useNow();
  const queries = useQueryClient();
  const resend = useMutation({
    mutationFn: (id: string) => body(client.POST("/apis/crowsnest.dev/v1/deliveries/{id}/resend", { params: { path: { id } } })),
    onSuccess: () => Promise.all([queries.invalidateQueries({ queryKey: ["deliveries"] }), queries.invalidateQueries({ queryKey: ["incident"] })]),
  });
  return (
    <div className={classes.attempts}>
      <p>
        <StateLabel state={deliveryState(d)}>{words[d.state]}</StateLabel> {d.next_at ? `next attempt in ${duration((instant(d.next_at) ?? now) - now)}` : ""}
      </p>
      {d.log.length === 0 ? <p className={classes.quiet}>No attempt has been made.</p> : null}
      <ol>
        {d.log.map((a) => (
          <li key={a.at}>
            <StateLabel state={a.result === "delivered" ? "ok" : a.result === "final" ? "critical" : "warning"}>{clock(instant(a.at) ?? 0, now, true)}</StateLabel>
            <span>
              {a.status > 0 ? `HTTP ${a.status}` : "no answer"} after {a.took_seconds < 1 ? `${Math.round(a.took_seconds * 1000)} ms` : duration(a.took_seconds)}
              {a.error === "" ? "" : `: ${a.error}`}
            </span>
          </li>
        ))}
      </ol>
      <div className={classes.row}>
        <Button size="xs" variant="default" leftSection={<IconSend size={14} />} loading={resend.isPending} onClick={() => resend.mutate(d.id)}>
          Send again, with the same id
        </Button>
        {resend.isSuccess ? <StateLabel state="ok">It will be sent again.</StateLabel> : null}
        {resend.error ? <StateLabel state="critical">{resend.error.message}</StateLabel> : null}
      </div>
    </div>
  );
}
