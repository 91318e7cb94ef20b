import { Button, Popover, SegmentedControl, Select, TextInput, UnstyledButton } from "@mantine/core";
import { IconCalendarTime, IconZoomOut } from "@tabler/icons-react";
import { type SyntheticEvent, useState, useSyncExternalStore } from "react";
import { frame as m } from "@/i18n/frame";
import { clock } from "@/ui/format";
import { useNow } from "@/ui/now";
import { parseTime, presets, resolveRange, type TimeRange, widen } from "@/ui/time";
import { dialogOpen, onDialogChange, openDialog } from "./dialogs";
import { comparisons, useCompare, useRange, useSetCompare, useSetRange } from "./page";
import { browserZone, chooseZone, chosenZone, zones } from "@/ui/zone";
import classes from "./pickers.module.css";

function rangeLabel(range: TimeRange, now: number): string {
  const preset = range.to === "now" ? presets.find((p) => p.from === range.from) : undefined;
  if (preset) return preset.label;
  const { start, end } = resolveRange(range, now);
  return `${clock(start, now)} – ${range.to === "now" ? m.range.now : clock(end, now)}`;
}

export function RangePicker() {
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  const open = useSyncExternalStore(onDialogChange, dialogOpen) === "range";
  const setOpen = (o: boolean) => openDialog(o ? "range" : undefined);
  const compare = useCompare();
  const setCompare = useSetCompare();
  const shown = rangeLabel(range, now);
  const against = compare.seconds > 0 ? m.range.against(compare.label) : undefined;
  const choose = (r: TimeRange) => {
    setOpen(false);
    setRange(r);
  };
  return (
    <div className={classes.pair}>
      <Popover opened={open} onChange={setOpen} position="bottom-end" width={300} trapFocus shadow="md">
        <Popover.Target>
          <UnstyledButton className={classes.button} onClick={() => setOpen(!open)} aria-label={m.range.label(against === undefined ? shown : `${shown} ${against}`)}>
            <IconCalendarTime size={15} aria-hidden />
            <span className={classes.rangeLabel}>{shown}</span>
            {against === undefined ? null : <> <span className={`${classes.against} ${classes.wideOnly}`}>{against}</span></>}
          </UnstyledButton>
        </Popover.Target>
        <Popover.Dropdown>
          <div className={classes.presets}>
            {presets.map((p) => (
              <UnstyledButton
                key={p.from}
                className={classes.preset}
                data-selected={(p.from === range.from && range.to === "now") || undefined}
                onClick={() => choose({ from: p.from, to: "now" })}
              >
                {p.label}
              </UnstyledButton>
            ))}
          </div>
          <div className={classes.compare}>
            <span>{m.range.compare}</span>
            <SegmentedControl size="xs" fullWidth aria-label={m.range.compareLabel} value={compare.value} onChange={setCompare} data={comparisons.map(({ value, label }) => ({ value, label }))} />
          </div>
          <Zone />
          <Custom key={`${range.from} ${range.to}`} range={range} onChoose={choose} />
        </Popover.Dropdown>
      </Popover>
      <UnstyledButton
        className={`${classes.button} ${classes.wideOnly}`}
        aria-label={m.range.zoomOut}
        title={m.range.zoomOutWhy}
        onClick={() => setRange(widen(range, now))}
      >
        <IconZoomOut size={15} aria-hidden />
      </UnstyledButton>
    </div>
  );
}

function Custom({ range, onChoose }: { range: TimeRange; onChoose: (r: TimeRange) => void }) {
  const [from, setFrom] = useState(range.from);
  const [to, setTo] = useState(range.to);
  const now = useNow();
  const start = parseTime(from.trim(), now);
  const end = parseTime(to.trim(), now);
  const wrongFrom = start === undefined ? m.range.fromExample : undefined;
  const wrongTo = end === undefined ? m.range.toExample : start !== undefined && start >= end ? m.range.after : undefined;
  const submit = (e: SyntheticEvent) => {
    e.preventDefault();
    if (!wrongFrom && !wrongTo) onChoose({ from: from.trim(), to: to.trim() });
  };
  return (
    <form onSubmit={submit} className={classes.custom}>
      <TextInput size="xs" label={m.range.from} value={from} onChange={(e) => setFrom(e.currentTarget.value)} error={wrongFrom} />
      <TextInput size="xs" label={m.range.to} value={to} onChange={(e) => setTo(e.currentTarget.value)} error={wrongTo} />
      <Button size="xs" type="submit" disabled={wrongFrom !== undefined || wrongTo !== undefined}>
        {m.range.show}
      </Button>
    </form>
  );
}

function Zone() {
  return (
    <Select
      size="xs"
      label={m.range.zone}
      searchable
      comboboxProps={{ withinPortal: false }}
      data={[{ value: "", label: m.range.zoneBrowser(browserZone) }, ...zones().map((z) => ({ value: z, label: z }))]}
      value={chosenZone ?? ""}
      allowDeselect={false}
      limit={200}
      className={classes.zone}
      onChange={(z) => {
        chooseZone(z === null || z === "" ? undefined : z);
        // Times are written all over the page, and pure functions write them: as with the language, the page begins anew.
        globalThis.location.reload();
      }}
    />
  );
}
