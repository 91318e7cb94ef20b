import { Button, Modal, MultiSelect, NumberInput, Select, Tabs, TagsInput, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconPlus } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { examples } from "@/i18n/examples";
import { incidents } from "@/i18n/incidents";
import { notifications as m } from "@/i18n/notifications";
import { DeliveryTable } from "@/parts/deliveries/DeliveryTable";
import { FirstUse } from "@/parts/policies/FirstUse";
import { Page } from "@/parts/page";
import { useTargets } from "@/parts/queries";
import { Command } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { clock, count, dateTime, duration, instant } from "@/ui/format";
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
import { Inhibitions, Routes } from "./Routing";

const route = getRouteApi("/notifications");
const tabs = ["targets", "routes", "deliveries", "silences", "maintenance", "inhibitions"] as const;

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
      title={m.title}
      loading={targets.data === undefined && !targets.error}
      sentence={targets.data ? (targets.data.length === 0 ? m.nobody : m.sentence(targets.data.length, failing)) : undefined}
    >
      <FirstUse />
      <Tabs value={tab} onChange={(t) => set({ tab: t === "targets" ? undefined : (t ?? undefined), sort: undefined })} keepMounted={false}>
        <Tabs.List>
          {tabs.map((t) => (
            <Tabs.Tab key={t} value={t}>
              {m.tabs[t]}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        <Tabs.Panel value="targets" pt="md">
          <Targets {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="routes" pt="md">
          <Routes {...table} />
        </Tabs.Panel>
        <Tabs.Panel value="inhibitions" pt="md">
          <Inhibitions {...table} />
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
    { id: "state", header: m.state, width: "120px", phoneWidth: "86px", sort: targetState, cell: (t) => <StateLabel state={targetState(t)}>{m.targets.states[targetState(t)]}</StateLabel> },
    { id: "name", header: m.targets.target, width: "minmax(120px, 1fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (t) => t.metadata.name, cell: (t) => t.metadata.name },
    { id: "type", header: m.targets.channel, wide: true, width: "90px", sort: (t) => t.spec.type, cell: (t) => t.spec.type },
    { id: "url", header: m.targets.address, wide: true, width: "minmax(120px, 1.5fr)", cell: (t) => <span title={t.spec.url}>{t.spec.url}</span> },
    { id: "pending", header: m.targets.waiting, numeric: true, wide: true, width: "70px", sort: (t) => t.status?.pending, cell: (t) => count(t.status?.pending) },
    { id: "dead", header: m.targets.givenUp, numeric: true, wide: true, width: "74px", sort: (t) => t.status?.dead, cell: (t) => count(t.status?.dead) },
    { id: "error", header: m.targets.lastError, wide: true, width: "minmax(80px, 1.5fr)", cell: (t) => <span title={t.status?.lastError}>{t.status?.lastError}</span> },
    {
      id: "act",
      header: "",
      width: "130px",
      phoneWidth: "116px",
      cell: (t) => (
        <span className={classes.inline}>
          <Button size="compact-xs" variant="default" loading={test.isPending && test.variables === t.metadata.name} onClick={() => test.mutate(t.metadata.name)}>
            {m.targets.test}
          </Button>
          <Button
            size="compact-xs"
            variant="default"
            onClick={() => {
              if (globalThis.confirm(m.targets.confirm(t.metadata.name))) remove.mutate(t.metadata.name);
            }}
          >
            {m.delete}
          </Button>
        </span>
      ),
    },
  ];
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          {m.targets.new}
        </Button>
        <span className={classes.quiet}>{m.targets.others}</span>
        {test.data ? <StateLabel state="info">{m.targets.tested(test.data.target)}</StateLabel> : null}
        {test.error || remove.error ? <StateLabel state="critical">{(test.error ?? remove.error)?.message}</StateLabel> : null}
      </div>
      <Loaded query={targets} what={m.targets.what} skeleton={<TableSkeleton rows={4} />}>
        {(all) =>
          all.length === 0 ? (
            <Empty title={m.targets.none}>{m.targets.noneText}</Empty>
          ) : (
            <DataTable label={m.targets.label} columns={columns} rows={all} rowKey={(t) => t.metadata.name} sort={parseSort(sort, { column: "name", descending: false })} onSort={(s) => onSort(sortText(s))} />
          )
        }
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title={m.targets.new} centered>
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
        <StateLabel state="ok">{m.targets.made(create.data.metadata.name)}</StateLabel>
        {create.data.status?.secret ? (
          <>
            <p>{m.targets.secret}</p>
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
      <TextInput label={m.name} data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} error={name === "" || nameRule.test(name) ? undefined : m.nameRule} />
      <TextInput label={m.targets.url} placeholder={examples.url} value={url} onChange={(e) => setUrl(e.currentTarget.value)} description={m.targets.urlText} />
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={!valid} loading={create.isPending}>
          {m.make}
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
      <Select size="xs" w={180} aria-label={m.deliveries.states} allowDeselect={false} value={chosen} onChange={(s) => onState(s === "all" || s === null ? undefined : s)} data={deliveryStates.map((s) => ({ value: s, label: incidents.deliveries.states[s] ?? s }))} />
      <Loaded query={deliveries} what={m.deliveries.what} skeleton={<TableSkeleton rows={8} />}>
        {(all) => <DeliveryTable deliveries={all} sort={sort} onSort={onSort} withIncident empty={chosen === "all" ? m.deliveries.none : m.deliveries.noneOf(incidents.deliveries.states[chosen] ?? chosen)} />}
      </Loaded>
    </div>
  );
}

type Mute = Maintenance | NonNullable<ReturnType<typeof useSilences>["data"]>[number];

const muteState = (x: Mute): State => ({ active: "info", pending: "waiting", expired: "idle", disabled: "idle" })[x.status?.state ?? "pending"] as State;

function muteColumns<T extends Mute>(when: Column<T>, onEnd: (name: string) => void, word: string, wordOf: (name: string) => string): Column<T>[] {
  return [
    { id: "state", header: m.state, width: "100px", phoneWidth: "84px", sort: (x) => ["active", "pending", "disabled", "expired"].indexOf(x.status?.state ?? "pending"), cell: (x) => <StateLabel state={muteState(x)}>{m.states[x.status?.state ?? ""] ?? x.status?.state}</StateLabel> },
    { id: "matchers", header: m.mutes, width: "minmax(160px, 3fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, cell: (x) => <span title={(x.spec.matchers ?? []).join(", ")}>{(x.spec.matchers ?? []).join(", ")}</span> },
    when,
    { id: "firing", header: m.mutedNow, numeric: true, wide: true, width: "86px", sort: (x) => x.status?.firing, cell: (x) => count(x.status?.firing) },
    { id: "comment", header: m.comment, wide: true, width: "minmax(80px, 2fr)", cell: (x) => <span title={x.spec.comment}>{x.spec.comment}</span> },
    { id: "by", header: m.by, wide: true, width: "80px", sort: (x) => x.metadata.updatedBy, cell: (x) => x.metadata.updatedBy },
    {
      id: "end",
      header: "",
      width: "76px",
      phoneWidth: "66px",
      cell: (x) => (
        <Button size="compact-xs" variant="default" onClick={() => onEnd(x.metadata.name)} aria-label={wordOf(x.metadata.name)}>
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
    { id: "until", header: m.silences.until, numeric: true, width: "110px", phoneWidth: "76px", sort: (s) => instant(s.spec.until), cell: (s) => <span title={dateTime(instant(s.spec.until) ?? now)}>{clock(instant(s.spec.until) ?? now, now)}</span> },
    (name) => end.mutate(name),
    m.silences.end,
    m.silences.endLabel,
  );
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          {m.silences.new}
        </Button>
        <span className={classes.quiet}>{m.silences.about}</span>
        {end.error ? <StateLabel state="critical">{end.error.message}</StateLabel> : null}
      </div>
      <Loaded query={silences} what={m.silences.what} skeleton={<TableSkeleton rows={4} />}>
        {(all) => <DataTable label={m.silences.label} columns={columns} rows={all} rowKey={(s) => s.metadata.name} sort={parseSort(sort, { column: "state", descending: false })} onSort={(s) => onSort(sortText(s))} dim={(s) => s.status?.state === "expired"} empty={m.silences.none} />}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title={m.silences.new} centered>
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
      <TagsInput label={m.matchers} description={m.silences.matchersText} data-autofocus value={matchers} onChange={setMatchers} acceptValueOnBlur />
      <NumberInput label={m.silences.hours} min={0.25} max={8760} step={1} value={hours} onChange={(h) => typeof h === "number" && setHours(h)} />
      <TextInput label={m.comment} value={comment} onChange={(e) => setComment(e.currentTarget.value)} />
      {create.error ? <StateLabel state="critical">{create.error.message}</StateLabel> : null}
      <div>
        <Button size="xs" type="submit" disabled={matchers.length === 0} loading={create.isPending}>
          {m.silences.silence}
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
  const next = (x: Maintenance) => (x.status?.state === "active" ? x.status.until : x.status?.next?.[0]);
  const columns = muteColumns<Maintenance>(
    {
      id: "next",
      header: m.maintenance.next,
      numeric: true,
      width: "130px",
      phoneWidth: "76px",
      sort: (x) => instant(next(x)),
      cell: (x) => {
        const at = instant(next(x));
        return <span title={(x.status?.next ?? []).map((t) => dateTime(instant(t) ?? now)).join("\n")}>{at === undefined ? m.maintenance.never : clock(at, now)}</span>;
      },
    },
    (name) => {
      if (globalThis.confirm(m.maintenance.confirm(name))) end.mutate(name);
    },
    m.delete,
    m.deleteLabel,
  );
  return (
    <div className={classes.stack}>
      <div className={classes.row}>
        <Button size="xs" leftSection={<IconPlus size={14} />} onClick={() => setMaking(true)}>
          {m.maintenance.new}
        </Button>
        <span className={classes.quiet}>{m.maintenance.about}</span>
        {end.error ? <StateLabel state="critical">{end.error.message}</StateLabel> : null}
      </div>
      <Loaded query={all} what={m.maintenance.what} skeleton={<TableSkeleton rows={3} />}>
        {(list) => <DataTable label={m.maintenance.label} columns={columns} rows={list} rowKey={(x) => x.metadata.name} sort={parseSort(sort, { column: "state", descending: false })} onSort={(s) => onSort(sortText(s))} empty={m.maintenance.none} />}
      </Loaded>
      <Modal opened={making} onClose={() => setMaking(false)} title={m.maintenance.newTitle} size="lg" centered>
        <NewWindow onDone={() => setMaking(false)} />
      </Modal>
    </div>
  );
}

const weekdays = Object.entries(m.maintenance.weekdays);

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
      <TextInput label={m.name} data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value)} error={name === "" || nameRule.test(name) ? undefined : m.nameRule} />
      <TagsInput label={m.matchers} description={m.maintenance.matchersText} value={matchers} onChange={setMatchers} acceptValueOnBlur />
      <div className={classes.row}>
        <MultiSelect label={m.maintenance.days} placeholder={days.length === 0 ? m.maintenance.everyDay : ""} data={weekdays.map(([value, label]) => ({ value, label }))} value={days} onChange={setDays} />
        <TextInput label={m.maintenance.from} type="time" value={time} onChange={(e) => setTime(e.currentTarget.value)} />
        <TextInput label={m.maintenance.for} value={length} onChange={(e) => setLength(e.currentTarget.value.trim())} w={90} />
        <Select label={m.maintenance.zone} searchable allowDeselect={false} data={[...new Set(["UTC", timezone, ...Intl.supportedValuesOf("timeZone")])]} value={timezone} onChange={(z) => setTimezone(z ?? "UTC")} />
      </div>
      <TextInput label={m.comment} value={comment} onChange={(e) => setComment(e.currentTarget.value)} />
      {preview.data ? (
        <div>
          <p className={classes.quiet}>{m.maintenance.preview}</p>
          <ul className={classes.windows}>
            {preview.data.windows.map((w) => (
              <li key={w.from}>
                {m.maintenance.window(dateTime(instant(w.from) ?? now), duration((instant(w.until) ?? 0) - (instant(w.from) ?? 0)))}
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
          {m.maintenance.make}
        </Button>
      </div>
    </form>
  );
}
