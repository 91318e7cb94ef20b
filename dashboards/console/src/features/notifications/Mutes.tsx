import { MultiSelect, NumberInput, Select, TagsInput, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useState } from "react";
import { notifications as m } from "@/i18n/notifications";
import type { Column } from "@/ui/DataTable";
import { clock, count, dateTime, duration, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { type State, StateLabel } from "@/ui/state";
import { Kept, ObjectForm, type TableProps } from "./Kept";
import classes from "./notifications.module.css";
import { type Maintenance, maintenanceStore, type Silence, silenceStore, useMaintenances, usePreview, useSilences } from "./queries";
import { type Recurrence, recurrence, rrule } from "./recurrence";

type Mute = Maintenance | Silence;

const muteState = (x: Mute): State => ({ active: "info", pending: "waiting", expired: "idle", disabled: "idle" })[x.status?.state ?? "pending"] as State;

function muteColumns<T extends Mute>(when: Column<T>): Column<T>[] {
  return [
    { id: "state", header: m.state, width: "100px", phoneWidth: "84px", sort: (x) => ["active", "pending", "disabled", "expired"].indexOf(x.status?.state ?? "pending"), cell: (x) => <StateLabel state={muteState(x)}>{m.states[x.status?.state ?? ""] ?? x.status?.state}</StateLabel> },
    { id: "matchers", header: m.mutes, width: "minmax(160px, 3fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, cell: (x) => <span title={(x.spec.matchers ?? []).join(", ")}>{(x.spec.matchers ?? []).join(", ")}</span> },
    when,
    { id: "firing", header: m.mutedNow, numeric: true, wide: true, width: "86px", sort: (x) => x.status?.firing, cell: (x) => count(x.status?.firing) },
    { id: "comment", header: m.comment, wide: true, width: "minmax(80px, 2fr)", cell: (x) => <span title={x.spec.comment}>{x.spec.comment}</span> },
    { id: "by", header: m.by, wide: true, width: "80px", sort: (x) => x.metadata.updatedBy, cell: (x) => x.metadata.updatedBy },
  ];
}

export function Silences(table: TableProps) {
  const now = useNow();
  const columns = muteColumns<Silence>({
    id: "until",
    header: m.silences.until,
    numeric: true,
    width: "110px",
    phoneWidth: "76px",
    sort: (s) => instant(s.spec.until),
    cell: (s) => <span title={dateTime(instant(s.spec.until) ?? now)}>{clock(instant(s.spec.until) ?? now, now)}</span>,
  });
  return (
    <Kept
      {...table}
      words={m.silences}
      query={useSilences()}
      store={silenceStore}
      columns={columns}
      first={{ column: "state", descending: false }}
      dim={(s) => s.status?.state === "expired"}
      end={{ word: m.silences.end, label: m.silences.endLabel }}
      form={(existing, onDone) => <SilenceForm existing={existing} onDone={onDone} />}
    />
  );
}

const hoursFrom = (hours: number): string => new Date(Date.now() + hours * 3600_000).toISOString();

function SilenceForm({ existing, onDone }: { existing: Silence | undefined; onDone: () => void }) {
  const [start] = useState(() => existing ?? silenceStore.blank(`silence-${new Date().toISOString().slice(0, 19).replace(/[^0-9]/g, "")}`, { matchers: [], until: hoursFrom(2) }));
  const [hours, setHours] = useState<number>(2);
  const now = useNow();
  return (
    <ObjectForm store={silenceStore} start={start} named={false} ready={(s) => (s.spec.matchers ?? []).length > 0} word={m.silences.silence} onDone={onDone}>
      {({ spec }, change) => (
        <>
          <TagsInput label={m.matchers} description={m.silences.matchersText} data-autofocus value={spec.matchers ?? []} onChange={(matchers) => change({ ...spec, matchers })} acceptValueOnBlur />
          <NumberInput
            label={existing ? m.silences.hoursFromNow : m.silences.hours}
            description={`${m.silences.until} ${dateTime(instant(spec.until) ?? now)}`}
            min={0.25}
            max={8760}
            step={1}
            value={hours}
            onChange={(h) => {
              if (typeof h !== "number" || h <= 0) return;
              setHours(h);
              change({ ...spec, until: hoursFrom(h) });
            }}
          />
          <TextInput label={m.comment} value={spec.comment ?? ""} onChange={(e) => change({ ...spec, comment: e.currentTarget.value })} />
        </>
      )}
    </ObjectForm>
  );
}

export function Maintenances(table: TableProps) {
  const now = useNow();
  const next = (x: Maintenance) => (x.status?.state === "active" ? x.status.until : x.status?.next?.[0]);
  const columns = muteColumns<Maintenance>({
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
  });
  return (
    <Kept
      {...table}
      words={m.maintenance}
      query={useMaintenances()}
      store={maintenanceStore}
      columns={columns}
      first={{ column: "state", descending: false }}
      form={(existing, onDone) => <WindowForm existing={existing} onDone={onDone} />}
    />
  );
}

const weekdays = Object.entries(m.maintenance.weekdays).map(([value, label]) => ({ value, label }));
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
const lengthRule = /^(\d+[smhd])+$/;
const isReady = (spec: Maintenance["spec"]): boolean => (spec.matchers ?? []).length > 0 && lengthRule.test(spec.duration);

function WindowForm({ existing, onDone }: { existing: Maintenance | undefined; onDone: () => void }) {
  const [start] = useState(() => existing ?? maintenanceStore.blank("", { matchers: [], rrule: rrule({ days: [], time: "02:00" }), timezone: here, duration: "1h" }));
  return (
    <ObjectForm store={maintenanceStore} start={start} ready={(x) => isReady(x.spec)} word={m.maintenance.make} onDone={onDone}>
      {(x, change) => <WindowFields spec={x.spec} onChange={change} />}
    </ObjectForm>
  );
}

function WindowFields({ spec, onChange }: { spec: Maintenance["spec"]; onChange: (spec: Maintenance["spec"]) => void }) {
  const now = useNow();
  const [settled] = useDebouncedValue(spec, 400);
  const preview = usePreview(settled, isReady(settled));
  const when = recurrence(spec.rrule);
  const again = (change: Partial<Recurrence>) => onChange({ ...spec, rrule: rrule({ days: [], time: "02:00", ...when, ...change }) });
  return (
    <>
      <TagsInput label={m.matchers} description={m.maintenance.matchersText} value={spec.matchers ?? []} onChange={(matchers) => onChange({ ...spec, matchers })} acceptValueOnBlur />
      {when ? (
        <div className={classes.row}>
          <MultiSelect label={m.maintenance.days} placeholder={when.days.length === 0 ? m.maintenance.everyDay : ""} data={weekdays} value={[...when.days]} onChange={(days) => again({ days })} />
          <TextInput label={m.maintenance.from} type="time" value={when.time} onChange={(e) => again({ time: e.currentTarget.value })} />
        </div>
      ) : (
        // What was written elsewhere may recur in ways that the two fields cannot say.
        <TextInput label={m.maintenance.rrule} value={spec.rrule} onChange={(e) => onChange({ ...spec, rrule: e.currentTarget.value })} spellCheck={false} />
      )}
      <div className={classes.row}>
        <TextInput label={m.maintenance.for} value={spec.duration} onChange={(e) => onChange({ ...spec, duration: e.currentTarget.value.trim() })} w={90} />
        <Select label={m.maintenance.zone} searchable allowDeselect={false} data={[...new Set(["UTC", spec.timezone ?? here, ...Intl.supportedValuesOf("timeZone")])]} value={spec.timezone ?? "UTC"} onChange={(z) => onChange({ ...spec, timezone: z ?? "UTC" })} />
      </div>
      <TextInput label={m.comment} value={spec.comment ?? ""} onChange={(e) => onChange({ ...spec, comment: e.currentTarget.value })} />
      {preview.data?.last ? (
        <StateLabel state="warning">
          {(instant(preview.data.last.until) ?? 0) > now ? m.maintenance.goesOn(dateTime(instant(preview.data.last.until) ?? now)) : m.maintenance.over(dateTime(instant(preview.data.last.from) ?? now))}
        </StateLabel>
      ) : preview.data ? (
        <div>
          <p className={classes.quiet}>{m.maintenance.preview}</p>
          <ul className={classes.windows}>
            {preview.data.windows.map((w) => (
              <li key={w.from}>{m.maintenance.window(dateTime(instant(w.from) ?? now), duration((instant(w.until) ?? 0) - (instant(w.from) ?? 0)))}</li>
            ))}
          </ul>
        </div>
      ) : preview.error ? (
        <StateLabel state="warning">{preview.error.message}</StateLabel>
      ) : null}
    </>
  );
}
