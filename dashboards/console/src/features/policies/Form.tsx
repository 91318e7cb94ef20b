import { ActionIcon, Button, MultiSelect, NumberInput, Select, TagsInput, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import type { Metric } from "@/api/types";
import { examples } from "@/i18n/examples";
import { policies as m } from "@/i18n/policies";
import { useClusters, useTargets, useWorkloads } from "@/parts/queries";
import { StateIcon } from "@/ui/state";
import { type Condition, conditionOf, type Draft, isLinesLevel, lineGroups, type LinesLevel, objectLevel, parseQuantity, quantityText, selectable, type Severity, severities, withCondition, withGroup, withLines, withMetric, withObjects, withSpec, withThreshold } from "./draft";
import { ops, period as periodWords, statistics } from "./model";
import classes from "./policies.module.css";
import { Preview } from "./Preview";

interface Props {
  readonly draft: Draft;
  readonly catalogue: readonly Metric[];
  readonly onChange: (draft: Draft) => void;
  /** Server's words on single fields, by their place in the spec. */
  readonly wrong: readonly { readonly location: string; readonly message: string }[];
}

const periods = ["30s", "1m", "2m", "5m", "10m", "15m", "30m", "1h", "6h", "1d"];

/** The policy as one sentence made of controls, with what it would see beside it. */
export function PolicyForm({ draft, catalogue, onChange, wrong }: Props) {
  const { spec } = draft;
  const conditions = spec.conditions ?? [];
  const places = usePlaces();
  const targets = useTargets();
  const level = objectLevel(spec);
  const can = selectable(level);
  const objects = spec.objects ?? {};
  const targetNames = (spec.notify?.targets ?? []).map((t) => t.name);
  const metricsOf = catalogue.filter((entry) => entry.level === spec.level);
  return (
    <div className={classes.form}>
      {conditions.map((c, i) => (
        <ConditionForm
          key={i}
          first={i === 0}
          any={spec.combine === "any"}
          draft={draft}
          index={i}
          condition={c}
          catalogue={i === 0 ? catalogue : metricsOf}
          onChange={onChange}
          wrong={wrong}
        />
      ))}
      <div className={classes.row}>
        <Button
          size="compact-xs"
          variant="default"
          leftSection={<IconPlus size={13} />}
          disabled={(metricsOf.length === 0 && !isLinesLevel(spec.level)) || conditions.length >= 5}
          onClick={() => {
            const [line] = conditions;
            if (isLinesLevel(spec.level) && line) {
              onChange(withSpec(draft, { conditions: [...conditions, { ...line, query: "" }] }));
              return;
            }
            const metric = metricsOf.find((entry) => !conditions.some((c) => c.metric === entry.name)) ?? metricsOf[0];
            if (metric) onChange(withSpec(draft, { conditions: [...conditions, conditionOf(metric)] }));
          }}
        >
          {m.form.further}
        </Button>
        {conditions.length > 1 ? (
          <Select
            size="xs"
            aria-label={m.form.combine}
            w={220}
            allowDeselect={false}
            data={[
              { value: "all", label: m.form.all },
              { value: "any", label: m.form.any },
            ]}
            value={spec.combine ?? "all"}
            onChange={(v) => onChange(withSpec(draft, { combine: v === "any" ? "any" : "all" }))}
          />
        ) : null}
      </div>
      <Line word={m.form.of}>
        <Multi label={m.form.clusters} any={m.form.anyCluster} values={spec.clusters?.names ?? []} known={places.clusters} onChange={(names) => onChange(clustersOf(draft, names))} />
        {can.namespaces ? (
          <Multi label={m.form.namespaces} any={m.form.anyNamespace} values={objects.namespaces ?? []} known={places.namespaces} onChange={(namespaces) => onChange(withObjects(draft, { namespaces }))} />
        ) : null}
        {can.workloads ? (
          <Multi label={m.form.workloads} any={m.form.anyWorkload} values={objects.workloads ?? []} known={places.workloads} onChange={(workloads) => onChange(withObjects(draft, { workloads }))} />
        ) : null}
        {can.names && level !== "workload" ? (
          <Multi label={m.form.named} any={m.form.anyObject(level)} values={objects.names ?? []} known={[]} onChange={(names) => onChange(withObjects(draft, { names }))} />
        ) : null}
        {can.namespaces ? (
          <Multi
            label={m.form.butNot}
            any={m.form.noException}
            values={objects.exclude?.namespaces ?? []}
            known={places.namespaces}
            onChange={(namespaces) => onChange(withObjects(draft, { exclude: exclusion(objects.exclude, namespaces) }))}
          />
        ) : null}
        {can.selector ? (
          <TextInput size="xs" label={m.form.labels} placeholder={examples.selector} value={objects.selector ?? ""} onChange={(e) => onChange(withObjects(draft, { selector: e.currentTarget.value }))} />
        ) : null}
      </Line>
      <Line word={m.form.tell}>
        <MultiSelect
          size="xs"
          label={m.form.targets}
          placeholder={targetNames.length === 0 ? m.form.byRoutes : ""}
          data={[...new Set([...(targets.data ?? []).map((t) => t.metadata.name), ...targetNames])]}
          value={targetNames}
          searchable
          nothingFoundMessage={m.form.noTarget}
          onChange={(names) => onChange(withTargets(draft, names))}
        />
      </Line>
      <Line word={m.form.andEnd}>
        <NumberInput
          size="xs"
          label={m.form.recoverAfter}
          min={1}
          max={60}
          value={spec.recoverAfter ?? 2}
          onChange={(n) => typeof n === "number" && onChange(withSpec(draft, { recoverAfter: n }))}
        />
        <Select
          size="xs"
          label={m.form.noData}
          allowDeselect={false}
          data={[
            { value: "keep", label: m.form.keep },
            { value: "resolve", label: m.form.resolve },
            { value: "alert", label: m.form.alert },
          ]}
          value={spec.noData?.action ?? "keep"}
          onChange={(v) => onChange(withSpec(draft, { noData: { ...spec.noData, action: v === "alert" || v === "resolve" ? v : "keep" } }))}
        />
        <TextInput
          size="xs"
          label={m.form.minAge}
          placeholder={m.form.minAgeHint}
          value={spec.minAge ?? ""}
          onChange={(e) => onChange(withSpec(draft, { minAge: e.currentTarget.value === "" ? "0s" : e.currentTarget.value.trim() }))}
        />
      </Line>
      <Line word={m.form.saying}>
        <TextInput
          size="xs"
          className={classes.grow}
          label={m.form.summary}
          placeholder={m.form.summaryHint}
          value={spec.annotations?.summary ?? ""}
          onChange={(e) => onChange(annotated(draft, "summary", e.currentTarget.value))}
        />
        <TextInput
          size="xs"
          className={classes.grow}
          label={m.form.runbook}
          placeholder={examples.url}
          value={spec.annotations?.runbook_url ?? ""}
          onChange={(e) => onChange(annotated(draft, "runbook_url", e.currentTarget.value))}
        />
      </Line>
    </div>
  );
}

const Line = ({ word, children }: { word: string; children: ReactNode }) => (
  <fieldset className={classes.line}>
    <legend>{word}</legend>
    <div className={classes.controls}>{children}</div>
  </fieldset>
);

function ConditionForm({ first, any, draft, index, condition: c, catalogue, onChange, wrong }: Props & { first: boolean; any: boolean; index: number; condition: Condition }) {
  const metric = catalogue.find((entry) => entry.name === c.metric);
  const set = (change: Partial<Condition>) => onChange(withCondition(draft, index, change));
  const replace = (next: Condition) => onChange(withSpec(draft, { conditions: (draft.spec.conditions ?? []).map((old, i) => (i === index ? next : old)) }));
  const groups = useMemo(() => {
    const by = new Map<string, { value: string; label: string }[]>();
    for (const entry of catalogue) {
      const group = m.levelTitle(entry.level);
      by.set(group, [...(by.get(group) ?? []), { value: entry.name, label: entry.dimensions.length > 0 ? m.form.by(entry.title, entry.dimensions.join(", ")) : entry.title }]);
    }
    const metrics = [...by].map(([group, items]) => ({ group, items }));
    return first ? [...metrics, { group: m.form.counted, items: [{ value: "log", label: m.form.lines }, { value: "event", label: m.form.events }] }] : metrics;
  }, [catalogue, first]);
  const said = wrong.filter((w) => w.location.includes(`conditions[${index}]`));
  const choose = (name: string | null) => {
    const next = catalogue.find((entry) => entry.name === name);
    if (isLinesLevel(name ?? undefined)) onChange(withLines(draft, name as LinesLevel));
    else if (next && next.name !== c.metric) onChange(withMetric(draft, index, next));
  };
  if (isLinesLevel(draft.spec.level)) {
    return <LinesForm word={first ? m.form.when : any ? m.form.orWhen : m.form.andWhen} first={first} level={draft.spec.level} draft={draft} index={index} condition={c} groups={groups} onChoose={choose} onChange={onChange} said={said} />;
  }
  if (c.metric === undefined || c.metric === "") {
    return <p className={classes.quiet}>{m.form.notMetric(index + 1)}</p>;
  }
  const unit = metric?.unit ?? "";
  return (
    <Line word={first ? m.form.when : any ? m.form.orWhen : m.form.andWhen}>
      <Select size="xs" label={m.form.the} allowDeselect={false} w={150} data={Object.entries(statistics).map(([value, label]) => ({ value, label }))} value={c.statistic ?? metric?.statistic ?? "avg"} onChange={(v) => set({ statistic: (v ?? "avg") as NonNullable<Condition["statistic"]> })} />
      <Select
        size="xs"
        label={m.form.ofAny(draft.spec.level)}
        aria-label={m.form.metric}
        w={250}
        searchable
        allowDeselect={false}
        data={groups}
        value={c.metric}
        maxDropdownHeight={420}
        onChange={choose}
      />
      <Judged condition={c} unit={unit} onChange={replace} />
      {metric?.dimensions.map((d) => (
        <Multi key={d} label={m.form.with(d)} any={m.form.anyOf(d)} values={c.where?.[d] ?? []} known={[]} onChange={(values) => set({ where: whereOf(c, d, values) })} />
      ))}
      {first ? null : <Remove draft={draft} index={index} onChange={onChange} />}
      <Said said={said} />
      {metric ? <Preview spec={draft.spec} condition={c} metric={metric} /> : null}
    </Line>
  );
}

/** How a value is judged: against which thresholds, in how many of which periods. */
function Judged({ condition: c, unit, onChange }: { condition: Condition; unit: string; onChange: (next: Condition) => void }) {
  const set = (change: Partial<Condition>) => onChange({ ...c, ...change });
  const need = c.need ?? c.of ?? 1;
  const of = c.of ?? need;
  return (
    <>
      <Select size="xs" label={m.form.is} aria-label={m.form.comparison} allowDeselect={false} w={130} data={Object.entries(ops).map(([value, label]) => ({ value, label }))} value={c.op} onChange={(v) => set({ op: (v ?? ">") as Condition["op"] })} />
      {severities.map((s) => (
        <ThresholdInput key={`${s} ${c.metric ?? ""}`} severity={s} unit={unit} value={c.thresholds[s]} onChange={(v) => onChange(withThreshold(c, "thresholds", s, v))} />
      ))}
      <NumberInput size="xs" label={m.form.in} aria-label={m.form.badPeriods} w={64} min={1} max={of} value={need} onChange={(n) => typeof n === "number" && set({ need: n, of: Math.max(of, n) })} />
      <NumberInput size="xs" label={m.form.ofLast} aria-label={m.form.ofLastPeriods} w={76} min={1} max={60} value={of} onChange={(n) => typeof n === "number" && set({ of: n, need: Math.min(need, n) })} />
      <Select size="xs" label={m.form.periodsOf} aria-label={m.form.period} allowDeselect={false} w={96} data={[...new Set([...periods, c.period])].map((p) => ({ value: p, label: periodWords(p) }))} value={c.period} onChange={(v) => set({ period: v ?? "1m" })} />
    </>
  );
}

const Remove = ({ draft, index, onChange }: { draft: Draft; index: number; onChange: (draft: Draft) => void }) => (
  <ActionIcon variant="default" size="md" className={classes.remove} aria-label={m.form.takeAway(index + 1)} onClick={() => onChange(withSpec(draft, { conditions: (draft.spec.conditions ?? []).filter((_, i) => i !== index) }))}>
    <IconTrash size={14} />
  </ActionIcon>
);

/** The server's words on a condition. */
const Said = ({ said }: { said: Props["wrong"] }) =>
  said.map((w) => (
    <p key={w.location + w.message} className={classes.wrong} role="alert">
      {w.location.replace(/^body\.(spec\.)?/, "")}: {w.message}
    </p>
  ));

/** A condition that counts lines or events which match a query. */
function LinesForm({
  word,
  first,
  level,
  draft,
  index,
  condition: c,
  groups,
  onChoose,
  onChange,
  said,
}: {
  word: string;
  first: boolean;
  level: LinesLevel;
  draft: Draft;
  index: number;
  condition: Condition;
  groups: { group: string; items: { value: string; label: string }[] }[];
  onChoose: (name: string | null) => void;
  onChange: (draft: Draft) => void;
  said: Props["wrong"];
}) {
  const names = draft.spec.clusters?.names ?? [];
  const [cluster] = names;
  const look = { q: c.query ?? "", ...(names.length === 1 && cluster !== undefined && !/[*?]/.test(cluster) ? { cluster } : {}) };
  return (
    <Line word={word}>
      {first ? <Select size="xs" label={m.form.theNumberOf} aria-label={m.form.metric} w={250} searchable allowDeselect={false} data={groups} value={level} maxDropdownHeight={420} onChange={onChoose} /> : null}
      <TextInput size="xs" className={classes.grow} label={m.form.thatMatch} placeholder={examples.logsql} value={c.query ?? ""} onChange={(e) => onChange(withCondition(draft, index, { query: e.currentTarget.value }))} spellCheck={false} classNames={{ input: classes.code ?? "" }} />
      {first ? (
        <Select
          size="xs"
          label={m.form.eachOf}
          aria-label={m.form.groupBy}
          w={140}
          allowDeselect={false}
          data={lineGroups[level].map((g) => ({ value: g, label: m.form.each(g) }))}
          value={objectLevel(draft.spec)}
          onChange={(g) => g !== null && onChange(withGroup(draft, g as NonNullable<Condition["groupBy"]>))}
        />
      ) : null}
      <Judged condition={c} unit="" onChange={(next) => onChange(withCondition(draft, index, next))} />
      {first ? null : <Remove draft={draft} index={index} onChange={onChange} />}
      <Said said={said} />
      <p className={classes.quiet}>
        {level === "log" ? <Link to="/logs" search={look}>{m.form.showLines}</Link> : <Link to="/events" search={look}>{m.form.showEvents}</Link>}
      </p>
    </Line>
  );
}

/** A threshold as people write it; what cannot be read is said and not taken. */
function ThresholdInput({ severity, unit, value, onChange }: { severity: Severity; unit: string; value: number | undefined; onChange: (v: number | undefined) => void }) {
  const [typed, setTyped] = useState<string | undefined>();
  const text = typed ?? quantityText(value, unit);
  const unreadable = text.trim() !== "" && parseQuantity(text, unit) === undefined;
  return (
    <TextInput
      size="xs"
      w={112}
      label={m.severity[severity]}
      aria-label={m.form.threshold(m.severity[severity] ?? severity)}
      placeholder={m.form.noThreshold}
      leftSection={<StateIcon state={severity} size={13} silent />}
      rightSection={<span className={classes.unit}>{unit === "%" || unit === "cores" ? unit : ""}</span>}
      rightSectionWidth={unit === "cores" ? 40 : 22}
      rightSectionPointerEvents="none"
      value={text}
      error={unreadable ? m.form.suchAs(unit === "B" ? "512 MiB" : unit === "B/s" ? "20 MB/s" : unit === "cores" ? "0.5" : "80") : undefined}
      onChange={(e) => {
        const next = e.currentTarget.value;
        setTyped(next);
        const n = parseQuantity(next, unit);
        if (next.trim() === "" || n !== undefined) onChange(n);
      }}
      onBlur={() => !unreadable && setTyped(undefined)}
    />
  );
}

/** Names and globs; empty means any. */
function Multi({ label, any, values, known, onChange }: { label: string; any: string; values: readonly string[]; known: readonly string[]; onChange: (values: string[]) => void }) {
  return <TagsInput size="xs" className={classes.multi} label={label} placeholder={values.length === 0 ? any : ""} data={[...known]} value={[...values]} onChange={onChange} splitChars={[",", " "]} limit={20} acceptValueOnBlur />;
}

function clustersOf(draft: Draft, names: string[]): Draft {
  const { clusters, ...rest } = draft.spec;
  const { names: _, ...others } = clusters ?? {};
  const next = names.length > 0 ? { ...others, names } : others;
  return { ...draft, spec: Object.keys(next).length > 0 ? { ...rest, clusters: next } : rest };
}

function withTargets(draft: Draft, names: readonly string[]): Draft {
  const old = draft.spec.notify?.targets ?? [];
  const targets = names.map((name) => old.find((t) => t.name === name) ?? { name });
  const { notify, ...rest } = draft.spec;
  const { targets: _, ...others } = notify ?? {};
  const next = targets.length > 0 ? { ...others, targets } : others;
  return { ...draft, spec: Object.keys(next).length > 0 ? { ...rest, notify: next } : rest };
}

function annotated(draft: Draft, key: string, value: string): Draft {
  const { annotations, ...rest } = draft.spec;
  const next = Object.fromEntries(Object.entries({ ...annotations, [key]: value }).filter(([, v]) => v !== ""));
  return { ...draft, spec: Object.keys(next).length > 0 ? { ...rest, annotations: next } : rest };
}

type Exclude = NonNullable<NonNullable<Draft["spec"]["objects"]>["exclude"]>;

function exclusion(old: Exclude | undefined, namespaces: string[]): Exclude | undefined {
  const { namespaces: _, ...rest } = old ?? {};
  const next: Exclude = namespaces.length > 0 ? { ...rest, namespaces } : rest;
  return Object.keys(next).length > 0 ? next : undefined;
}

function whereOf(c: Condition, dimension: string, values: string[]): Condition["where"] {
  const { [dimension]: _, ...rest } = c.where ?? {};
  const next = values.length > 0 ? { ...rest, [dimension]: values } : rest;
  return Object.keys(next).length > 0 ? next : undefined;
}

/** Names that exist, to choose from. The largest cluster is enough for suggestions: any text is taken. */
function usePlaces(): { clusters: string[]; namespaces: string[]; workloads: string[] } {
  const clusters = useClusters();
  const biggest = [...(clusters.data ?? [])].sort((a, b) => b.workloads.total - a.workloads.total)[0];
  const workloads = useWorkloads(biggest?.id ?? "", false, biggest !== undefined);
  return useMemo(
    () => ({
      clusters: (clusters.data ?? []).map((c) => c.id),
      namespaces: [...new Set((workloads.data?.items ?? []).map((w) => w.namespace))].sort(),
      workloads: [...new Set((workloads.data?.items ?? []).map((w) => `${w.type}/${w.name}`))].sort(),
    }),
    [clusters.data, workloads.data],
  );
}
