import { Button, Popover, SegmentedControl, TextInput, UnstyledButton } from "@mantine/core";
import { IconCalendarTime, IconZoomOut } from "@tabler/icons-react";
import { type SyntheticEvent, useState } from "react";
import { clock } from "@/ui/format";
import { useNow } from "@/ui/now";
import { parseTime, presets, resolveRange, type TimeRange, widen } from "@/ui/time";
import { comparisons, useCompare, useRange, useSetCompare, useSetRange } from "./page";
import classes from "./pickers.module.css";

function rangeLabel(range: TimeRange, now: number): string {
  const preset = range.to === "now" ? presets.find((p) => p.from === range.from) : undefined;
  if (preset) return preset.label;
  const { start, end } = resolveRange(range, now);
  return `${clock(start, now)} – ${range.to === "now" ? "now" : clock(end, now)}`;
}

export function RangePicker() {
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  const [open, setOpen] = useState(false);
  const compare = useCompare();
  const setCompare = useSetCompare();
  const choose = (r: TimeRange) => {
    setOpen(false);
    setRange(r);
  };
  return (
    <div className={classes.pair}>
      <Popover opened={open} onChange={setOpen} position="bottom-end" width={300} trapFocus shadow="md">
        <Popover.Target>
          <UnstyledButton className={classes.button} onClick={() => setOpen((o) => !o)} aria-label={`time range: ${rangeLabel(range, now)}`}>
            <IconCalendarTime size={15} aria-hidden />
            <span className={classes.rangeLabel}>{rangeLabel(range, now)}</span>
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
            <span>Compare charts with</span>
            <SegmentedControl size="xs" fullWidth aria-label="compare charts with" value={compare.value} onChange={setCompare} data={comparisons.map(({ value, label }) => ({ value, label }))} />
          </div>
          <Custom key={`${range.from} ${range.to}`} range={range} onChoose={choose} />
        </Popover.Dropdown>
      </Popover>
      <UnstyledButton
        className={`${classes.button} ${classes.wideOnly}`}
        aria-label="zoom out"
        title="zoom out: twice as long"
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
  const wrongFrom = start === undefined ? "such as now-6h or 2026-11-23T10:00:00Z" : undefined;
  const wrongTo = end === undefined ? "such as now or 2026-11-23T11:00:00Z" : start !== undefined && start >= end ? "must be after the start" : undefined;
  const submit = (e: SyntheticEvent) => {
    e.preventDefault();
    if (!wrongFrom && !wrongTo) onChoose({ from: from.trim(), to: to.trim() });
  };
  return (
    <form onSubmit={submit} className={classes.custom}>
      <TextInput size="xs" label="From" value={from} onChange={(e) => setFrom(e.currentTarget.value)} error={wrongFrom} />
      <TextInput size="xs" label="To" value={to} onChange={(e) => setTo(e.currentTarget.value)} error={wrongTo} />
      <Button size="xs" type="submit" disabled={wrongFrom !== undefined || wrongTo !== undefined}>
        Show
      </Button>
    </form>
  );
}
