import { Button, ScrollArea, Select, Skeleton, TextInput, UnstyledButton } from "@mantine/core";
import { IconChevronDown, IconChevronRight, IconSearch } from "@tabler/icons-react";
import { useDeferredValue, useMemo, useState } from "react";
import type { Metric } from "@/api/types";
import { explore } from "@/i18n/explore";
import { useCatalogue } from "@/parts/queries";
import { Copy } from "@/ui/Bits";
import { Failure } from "@/ui/Feedback";
import classes from "./explore.module.css";
import { type Family, found, type Known, known, narrowed } from "./model";
import { useFamilies, useLabels, useLabelValues } from "./queries";

const m = explore.metrics;
const noMetrics: readonly Metric[] = [];
const noNames: readonly string[] = [];
const noFamilies: Readonly<Record<string, readonly Family[]>> = {};
const mostShown = 300;

interface Props {
  /** Asks a metric for the first time. */
  readonly onAsk: (metric: Known) => void;
  /** Puts PromQL where the cursor is. */
  readonly onInsert: (text: string) => void;
}

/** Every metric there is: the catalogue in the words of people, and the families as sources give them. */
export function Metrics({ onAsk, onInsert }: Props) {
  const catalogue = useCatalogue();
  const names = useLabelValues("__name__", undefined);
  const families = useFamilies();
  const [filter, setFilter] = useState("");
  const [level, setLevel] = useState("");
  const [open, setOpen] = useState<string | undefined>();
  const words = useDeferredValue(filter);
  const all = useMemo(() => known(catalogue.data ?? noMetrics, names.data ?? noNames, families.data ?? noFamilies), [catalogue.data, names.data, families.data]);
  const shown = useMemo(() => found(all, words, level, mostShown), [all, words, level]);
  const levels = useMemo(() => [...new Set(all.map((x) => x.level))], [all]);
  return (
    <details className={classes.metrics} open={globalThis.matchMedia("(min-width: 62em)").matches}>
      <summary>{m.title}</summary>
      <div className={classes.search}>
        <TextInput size="xs" aria-label={m.findLabel} placeholder={m.find} leftSection={<IconSearch size={14} />} value={filter} onChange={(e) => setFilter(e.currentTarget.value)} />
        <Select size="xs" aria-label={m.level} allowDeselect={false} value={level} onChange={(l) => setLevel(l ?? "")} data={[{ value: "", label: m.everyLevel }, ...levels.map((l) => ({ value: l, label: m.levels[l] ?? l }))]} />
      </div>
      {catalogue.isLoading ? <Skeleton height={300} mt={8} /> : null}
      {catalogue.error ? <Failure what={m.what} error={catalogue.error} onRetry={() => void catalogue.refetch()} /> : null}
      <ScrollArea.Autosize mah="70vh" type="auto" viewportProps={{ tabIndex: 0, role: "region", "aria-label": m.label }}>
        {shown.levels.map((l) => (
          <div key={l.level} className={classes.level}>
            <h3>{m.levels[l.level] ?? l.level}</h3>
            {l.metrics.map((x) => (
              <div key={x.name}>
                <UnstyledButton className={classes.metric} aria-expanded={open === x.name} title={x.name} onClick={() => setOpen(open === x.name ? undefined : x.name)}>
                  {open === x.name ? <IconChevronDown size={13} aria-hidden /> : <IconChevronRight size={13} aria-hidden />}
                  <span className={classes.metricTitle}>{x.title}</span>
                  <span className={classes.unit}>{x.unit === "count" ? "" : x.unit}</span>
                </UnstyledButton>
                {open === x.name ? <Detail metric={x} onAsk={onAsk} onInsert={onInsert} /> : null}
              </div>
            ))}
          </div>
        ))}
        {shown.more > 0 ? <p className={classes.quiet}>{m.more(shown.more)}</p> : null}
        {!catalogue.isLoading && shown.levels.length === 0 ? <p className={classes.quiet}>{m.none}</p> : null}
      </ScrollArea.Autosize>
    </details>
  );
}

function Detail({ metric, onAsk, onInsert }: Props & { metric: Known }) {
  const asked = useLabels(metric.name, metric.labels === undefined);
  const [label, setLabel] = useState<string | undefined>();
  const labels = metric.labels ?? (asked.data ?? noNames).filter((l) => l !== "__name__");
  return (
    <div className={classes.detail}>
      <div className={classes.metricName}>
        <code>{metric.name}</code>
        <Copy value={metric.name} what={m.name} />
      </div>
      {metric.help === "" ? null : <p>{metric.help}</p>}
      <p className={classes.quiet}>
        {[m.kinds[metric.kind] ?? metric.kind, metric.unit === "" || metric.unit === "count" ? "" : m.unit(metric.unit)].filter((w) => w !== "").join(", ")}
        {metric.absent === undefined || metric.absent === "" ? "" : ` · ${m.absent(metric.absent)}`}
      </p>
      <div className={classes.row}>
        <Button size="compact-xs" onClick={() => onAsk(metric)}>
          {m.ask}
        </Button>
        <Button size="compact-xs" variant="default" onClick={() => onInsert(metric.name)}>
          {m.insert}
        </Button>
      </div>
      {labels.length === 0 ? null : (
        <>
          <h4>{m.labels}</h4>
          <div className={classes.labels}>
            {labels.map((l) => (
              <UnstyledButton key={l} className={classes.label} aria-expanded={label === l} onClick={() => setLabel(label === l ? undefined : l)}>
                {l}
              </UnstyledButton>
            ))}
          </div>
        </>
      )}
      {label === undefined ? null : <Values metric={metric.name} label={label} onInsert={onInsert} />}
    </div>
  );
}

function Values({ metric, label, onInsert }: { metric: string; label: string; onInsert: (text: string) => void }) {
  const values = useLabelValues(label, metric);
  if (values.error) return <p className={classes.quiet}>{values.error.message}</p>;
  if (!values.data) return <Skeleton height={60} />;
  if (values.data.length === 0) return <p className={classes.quiet}>{m.noValues}</p>;
  return (
    <ul className={classes.values} aria-label={m.values(label)}>
      {values.data.map((v) => (
        <li key={v}>
          <UnstyledButton className={classes.value} title={narrowed(metric, label, v)} onClick={() => onInsert(narrowed(metric, label, v))}>
            {v === "" ? '""' : v}
          </UnstyledButton>
        </li>
      ))}
    </ul>
  );
}
