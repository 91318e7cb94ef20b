import { Button, Modal, MultiSelect, NumberInput, Select, Tabs, TagsInput, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconPlus } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { DeliveryTable } from "@/parts/deliveries/DeliveryTable";
import { Page } from "@/parts/page";
import { useTargets } from "@/parts/queries";
import { Command } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { clock, count, dateTime, duration, instant, plural } from "@/ui/format";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { type State, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./notifications.module.css";
import {
  type DeliveryState,
  type Maintenance,
  type Target,
  useCreateMaintenance,
  useCreateSilence,
  useCreateWebhook,
  useDeleteMaintenance,
  useDeleteSilence,
  useDeleteTarget,
  useDeliveries,
  useMaintenances,
  usePreview,
  useSilences,
  useTestTarget,
} from "./queries";

const route = getRouteApi("/notifications");
const tabs = ["targets", "deliveries", "silences", "maintenance"] as const;

export function NotificationsPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const tab = tabs.find((t) => t === search.tab) ?? "targets";
  const targets = useTargets();
  const set = (change: Partial<typeof search>) => void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
  const failing = (targets.data ?? []).filter((t) => targetState(t) !== "ok").length;
  const table = { sort: search.sort, onSort: (sort: string) => set({ sort }) };
  return (
    <Page
      title="Notifications"
      loading={targets.data === undefined && !targets.error}
      sentence={targets.data ? (targets.data.length === 0 ? "Nobody is told of anything yet: there is no target." : `${plural(targets.data.length, "target")}${failing > 0 ? `, ${failing} with trouble` : ", none with trouble"}.`) : undefined}
    >
      <Tabs value={tab} onChange={(t) => set({ tab: t === "targets" ? undefined : (t ?? undefined), sort: undefined })} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="targets">Targets</Tabs.Tab>
          <Tabs.Tab value="deliveries">Deliveries</Tabs.Tab>
          <Tabs.Tab value="silences">Silences</Tabs.Tab>
          <Tabs.Tab value="maintenance">Maintenance</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="targets" pt="md">
          <Targets {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="deliveries" pt="md">
          <Deliveries state={search.state} onState={(state) => set({ state })} {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="silences" pt="md">
          <Silences {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="maintenance" pt="md">
          <Maintenances {...table} />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}

interface TableProps {
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
}

function targetState(t: Target): State {
  if (t.status?.circuit === "open") return "critical";
  return t.status?.lastError ? "warning" : "ok";
}

function Targets({ sort, onSort }: TableProps) {
  const targets = useTargets();
  const test = useTestTarget();
  const remove = useDeleteTarget();
  const [making, setMaking] = useState(false);
  const columns: Column<Target>[] = [
    { id: "state", header: "State", width: "120px", phoneWidth: "86px", sort: targetState, cell: (t) => <StateLabel state={targetState(t)}>{{ ok: "works", critical: "failing" }[targetState(t) as string] ?? "last failed"}</StateLabel> },
    { id: "name", header: "Target", width: "minmax(120px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (t) => t.metadata.name, cell: (t) => t.metadata.name },
    { id: "type", header: "Channel", wide: true, width: "90px", sort: (t) => t.spec.type, cell: (t) => t.spec.type },
    { id: "url", header: "Address", wide: true, width: "minmax(120px, 1.5fr)", cell: (t) => <span title={t.spec.url}>{t.spec.url}</span> },
    { id: "pending", header: "Waiting", numeric: true, wide: true, width: "70px", sort: (t) => t.status?.pending, cell: (t) => count(t.status?.pending) },
    { id: "dead", header: "Given up", numeric: true, wide: true, width: "74px", sort: (t) => t.status?.dead, cell: (t) => count(t.status?.dead) },
    { id: "error", header: "Last error", wide: true, width: "minmax(80px, 1.5fr)", cell: (t) => <span title={t.status?.lastError}>{t.status?.lastError}</span> },
    {
      id: "act",
      header: "",
      width: "130px",
      phoneWidth: "116px",
      cell: (t) => (
        <span className={classes.inline}>
          <Button size="compact-xs" variant="default" loading={test.isPending && test.variables === t.metadata.name} onClick={() => test.mutate(t.metadata.name)}>
            Test
          </Button>
          <Button
            size="compact-xs"
            variant="default"
            onClick={() => {
              if (globalThis.confirm(`Delete the target ${t.metadata.name}? What waits for it is given up.`)) remove.mutate(t.metadata.name);
            }}
          >
            Delete
          </Button>
        </span>
      ),
    },
  ];
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          New webhook
        </Button>
        <span className={classes.quiet}>Other channels (mail, chat, pagers) are written as YAML: crowsnest policy apply -f target.yaml</span>
        {test.data ? <StateLabel state="info">A test message to {test.data.target} is on its way; its result stands under Deliveries.</StateLabel> : null}
        {test.error || remove.error ? <StateLabel state="critical">{(test.error ?? remove.error)?.message}</StateLabel> : null}
      </div>
      <Loaded query={targets} what="Targets" skeleton={<TableSkeleton rows={4} />}>
        {(all) =>
          all.length === 0 ? (
            <Empty title="No target yet">A target is where notifications go. Policies name targets, or routes choose them.</Empty>
          ) : (
            <DataTable label="targets" columns={columns} rows={all} rowKey={(t) => t.metadata.name} sort={parseSort(sort, { column: "name", descending: false })} onSort={(s) => onSort(sortText(s))} />
          )
        }
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title="New webhook" centered>
        <NewWebhook />
      </Modal>
    </div>
  );
}

const nameRule = /^[a-z0-9-]{1,63}$/;

function NewWebhook() {
  const create = useCreateWebhook();
  const [name, setName] = useState("");
  const [url, setUrl] = useState("");
  const valid = nameRule.test(name) && /^https?:\/\/.+/.test(url);
  if (create.data) {
    return (
      <div className={classes.stack}>
        <StateLabel state="ok">{create.data.metadata.name} is there.</StateLabel>
        {create.data.status?.secret ? (
          <>
            <p>Its receiver checks signatures (Standard Webhooks) with this secret, which is shown this once:</p>
            <Command>{create.data.status.secret}</Command>
          </>
        ) : null}
      </div>
    );
  }
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        if (valid) create.mutate({ name, url });
      }}
    >
      <TextInput label="Name" data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} error={name === "" || nameRule.test(name) ? undefined : "a to z, 0 to 9 and -, at most 63"} />
      <TextInput label="URL" placeholder="https://…" value={url} onChange={(e) => setUrl(e.currentTarget.value)} description="Messages are POSTed there as JSON. It is kept as a secret." />
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={!valid} loading={create.isPending}>
          Make it
        </Button>
      </div>
    </form>
  );
}

const deliveryStates: readonly DeliveryState[] = ["all", "pending", "delivered", "dead", "superseded", "skipped"];

function Deliveries({ state, onState, sort, onSort }: TableProps & { state: string | undefined; onState: (state: string | undefined) => void }) {
  const chosen = deliveryStates.find((s) => s === state) ?? "all";
  const deliveries = useDeliveries(chosen);
  return (
    <div className={classes.stack}>
      <Select size="xs" w={180} aria-label="state of deliveries" allowDeselect={false} value={chosen} onChange={(s) => onState(s === "all" || s === null ? undefined : s)} data={deliveryStates.map((s) => ({ value: s, label: s === "dead" ? "given up" : s }))} />
      <Loaded query={deliveries} what="Deliveries" skeleton={<TableSkeleton rows={8} />}>
        {(all) => <DeliveryTable deliveries={all} sort={sort} onSort={onSort} withIncident empty={chosen === "all" ? "Nothing has been sent yet." : `No delivery is ${chosen}.`} />}
      </Loaded>
    </div>
  );
}

type Mute = Maintenance | NonNullable<ReturnType<typeof useSilences>["data"]>[number];

const muteState = (m: Mute): State => ({ active: "info", pending: "waiting", expired: "idle", disabled: "idle" })[m.status?.state ?? "pending"] as State;

function muteColumns<T extends Mute>(when: Column<T>, onEnd: (name: string) => void, word: string): Column<T>[] {
  return [
    { id: "state", header: "State", width: "100px", phoneWidth: "84px", sort: (m) => ["active", "pending", "disabled", "expired"].indexOf(m.status?.state ?? "pending"), cell: (m) => <StateLabel state={muteState(m)}>{m.status?.state}</StateLabel> },
    { id: "matchers", header: "Mutes", width: "minmax(160px, 3fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, cell: (m) => <span title={(m.spec.matchers ?? []).join(", ")}>{(m.spec.matchers ?? []).join(", ")}</span> },
    when,
    { id: "firing", header: "Muted now", numeric: true, wide: true, width: "86px", sort: (m) => m.status?.firing, cell: (m) => count(m.status?.firing) },
    { id: "comment", header: "Comment", wide: true, width: "minmax(80px, 2fr)", cell: (m) => <span title={m.spec.comment}>{m.spec.comment}</span> },
    { id: "by", header: "By", wide: true, width: "80px", sort: (m) => m.metadata.updatedBy, cell: (m) => m.metadata.updatedBy },
    {
      id: "end",
      header: "",
      width: "76px",
      phoneWidth: "66px",
      cell: (m) => (
        <Button size="compact-xs" variant="default" onClick={() => onEnd(m.metadata.name)} aria-label={`${word} ${m.metadata.name}`}>
          {word}
        </Button>
      ),
    },
  ];
}

function Silences({ sort, onSort }: TableProps) {
  const silences = useSilences();
  const end = useDeleteSilence();
  const now = useNow();
  const [making, setMaking] = useState(false);
  const columns = muteColumns<NonNullable<typeof silences.data>[number]>(
    { id: "until", header: "Until", numeric: true, width: "110px", phoneWidth: "76px", sort: (s) => instant(s.spec.until), cell: (s) => <span title={dateTime(instant(s.spec.until) ?? now)}>{clock(instant(s.spec.until) ?? now, now)}</span> },
    (name) => end.mutate(name),
    "End",
  );
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          New silence
        </Button>
        <span className={classes.quiet}>A silence mutes notifications once; evaluation goes on.</span>
        {end.error ? <StateLabel state="critical">{end.error.message}</StateLabel> : null}
      </div>
      <Loaded query={silences} what="Silences" skeleton={<TableSkeleton rows={4} />}>
        {(all) => <DataTable label="silences" columns={columns} rows={all} rowKey={(s) => s.metadata.name} sort={parseSort(sort, { column: "state", descending: false })} onSort={(s) => onSort(sortText(s))} dim={(s) => s.status?.state === "expired"} empty="Nothing is silenced." />}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title="New silence" centered>
        <NewSilence onDone={() => setMaking(false)} />
      </Modal>
    </div>
  );
}

function NewSilence({ onDone }: { onDone: () => void }) {
  const create = useCreateSilence();
  const [matchers, setMatchers] = useState<string[]>([]);
  const [hours, setHours] = useState<number>(2);
  const [comment, setComment] = useState("");
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        const now = new Date();
        create.mutate({ name: `silence-${now.toISOString().slice(0, 19).replace(/[^0-9]/g, "")}`, matchers, until: new Date(now.getTime() + hours * 3600_000).toISOString(), comment }, { onSuccess: onDone });
      }}
    >
      <TagsInput label="Matchers" description={'As in Alertmanager; all must match: namespace="shop", severity=~"info|warning", policy="pod-cpu"'} data-autofocus value={matchers} onChange={setMatchers} acceptValueOnBlur />
      <NumberInput label="Hours" min={0.25} max={8760} step={1} value={hours} onChange={(h) => typeof h === "number" && setHours(h)} />
      <TextInput label="Comment" value={comment} onChange={(e) => setComment(e.currentTarget.value)} />
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={matchers.length === 0} loading={create.isPending}>
          Silence
        </Button>
      </div>
    </form>
  );
}

function Maintenances({ sort, onSort }: TableProps) {
  const all = useMaintenances();
  const end = useDeleteMaintenance();
  const now = useNow();
  const [making, setMaking] = useState(false);
  const next = (m: Maintenance) => (m.status?.state === "active" ? m.status.until : m.status?.next?.[0]);
  const columns = muteColumns<Maintenance>(
    {
      id: "next",
      header: "Next or until",
      numeric: true,
      width: "130px",
      phoneWidth: "76px",
      sort: (m) => instant(next(m)),
      cell: (m) => {
        const at = instant(next(m));
        return <span title={(m.status?.next ?? []).map((t) => dateTime(instant(t) ?? now)).join("\n")}>{at === undefined ? "never" : clock(at, now)}</span>;
      },
    },
    (name) => {
      if (globalThis.confirm(`Delete the maintenance window ${name}?`)) end.mutate(name);
    },
    "Delete",
  );
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          New window
        </Button>
        <span className={classes.quiet}>A maintenance window mutes notifications again and again, in its own time zone.</span>
        {end.error ? <StateLabel state="critical">{end.error.message}</StateLabel> : null}
      </div>
      <Loaded query={all} what="Maintenance windows" skeleton={<TableSkeleton rows={3} />}>
        {(list) => <DataTable label="maintenance windows" columns={columns} rows={list} rowKey={(m) => m.metadata.name} sort={parseSort(sort, { column: "state", descending: false })} onSort={(s) => onSort(sortText(s))} empty="There is no maintenance window." />}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title="New maintenance window" size="lg" centered>
        <NewWindow onDone={() => setMaking(false)} />
      </Modal>
    </div>
  );
}

const weekdays = [
  ["MO", "Monday"],
  ["TU", "Tuesday"],
  ["WE", "Wednesday"],
  ["TH", "Thursday"],
  ["FR", "Friday"],
  ["SA", "Saturday"],
  ["SU", "Sunday"],
] as const;

function NewWindow({ onDone }: { onDone: () => void }) {
  const create = useCreateMaintenance();
  const now = useNow();
  const [name, setName] = useState("");
  const [matchers, setMatchers] = useState<string[]>([]);
  const [days, setDays] = useState<string[]>([]);
  const [time, setTime] = useState("02:00");
  const [length, setLength] = useState("1h");
  const [timezone, setTimezone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone);
  const [comment, setComment] = useState("");
  const [hour = "2", minute = "0"] = time.split(":");
  const rrule = `FREQ=${days.length > 0 ? `WEEKLY;BYDAY=${days.join(",")}` : "DAILY"};BYHOUR=${Number(hour)};BYMINUTE=${Number(minute)};BYSECOND=0`;
  const wanted = { name: name === "" ? "preview" : name, matchers, rrule, timezone, duration: length, starts: "", comment };
  const ready = matchers.length > 0 && /^(\d+[smhd])+$/.test(length);
  const [settled] = useDebouncedValue(wanted, 400);
  const preview = usePreview(settled, ready);
  return (
    <form
      className={classes.stack}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        create.mutate({ ...wanted, name }, { onSuccess: onDone });
      }}
    >
      <TextInput label="Name" data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} error={name === "" || nameRule.test(name) ? undefined : "a to z, 0 to 9 and -, at most 63"} />
      <TagsInput label="Matchers" description={'All must match: namespace="shop", cluster="prod-1"'} value={matchers} onChange={setMatchers} acceptValueOnBlur />
      <div className={classes.row}>
        <MultiSelect label="On days" placeholder={days.length === 0 ? "every day" : ""} data={weekdays.map(([value, label]) => ({ value, label }))} value={days} onChange={setDays} />
        <TextInput label="From" type="time" value={time} onChange={(e) => setTime(e.currentTarget.value)} />
        <TextInput label="For" value={length} onChange={(e) => setLength(e.currentTarget.value.trim())} w={90} />
        <Select label="Time zone" searchable allowDeselect={false} data={[...new Set(["UTC", timezone, ...Intl.supportedValuesOf("timeZone")])]} value={timezone} onChange={(z) => setTimezone(z ?? "UTC")} />
      </div>
      <TextInput label="Comment" value={comment} onChange={(e) => setComment(e.currentTarget.value)} />
      {preview.data ? (
        <div>
          <p className={classes.quiet}>The next windows, in your time:</p>
          <ul className={classes.windows}>
            {preview.data.windows.map((w) => (
              <li key={w.from}>
                {dateTime(instant(w.from) ?? now)}, for {duration((instant(w.until) ?? 0) - (instant(w.from) ?? 0))}
              </li>
            ))}
          </ul>
        </div>
      ) : preview.error ? (
        <StateLabel state="warning">{preview.error.message}</StateLabel>
      ) : null}
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={!ready || !nameRule.test(name)} loading={create.isPending}>
          Make the window
        </Button>
      </div>
    </form>
  );
}
