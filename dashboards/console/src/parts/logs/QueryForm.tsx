import { ActionIcon, Autocomplete, Button, Code, MultiSelect, Pill, Select, TextInput } from "@mantine/core";
import { IconPlus, IconX } from "@tabler/icons-react";
import { useState } from "react";
import type { ClusterId } from "@/api/keys";
import { logs as m } from "@/i18n/logs";
import { Empty } from "@/ui/Feedback";
import classes from "./logs.module.css";
import { levelName, levels } from "./model";
import { useFieldNames, useFieldValues } from "./queries";
import { type FieldTerm, noTerms, readTerms, readWords, type Relation, relations, type Terms, writeTerms, writeWords } from "./terms";

interface Props {
  readonly cluster: ClusterId | undefined;
  readonly kind: "logs" | "events";
  readonly typed: string;
  readonly onTyped: (typed: string) => void;
  readonly base: string;
  readonly what: string;
  readonly oneWorkload: boolean;
}

/** A search for those who do not write LogsQL; it writes it for them. */
export function QueryForm({ cluster, kind, typed, onTyped, base, what, oneWorkload }: Props) {
  // A row that says nothing yet stands in no query: the form keeps what it wrote, until somebody else writes.
  const [kept, setKept] = useState<{ typed: string; from: string; settled: boolean; terms: Terms } | undefined>();
  if (kept && !kept.settled && kept.typed === typed) setKept({ ...kept, settled: true });
  const names = useFieldNames(cluster, base, true);
  const terms = kept && (kept.typed === typed || (!kept.settled && kept.from === typed)) ? kept.terms : readTerms(typed);
  if (terms === undefined)
    return (
      <Empty
        title={m.form.label(what)}
        action={
          <Button size="xs" variant="default" onClick={() => onTyped("")}>
            {m.form.clear}
          </Button>
        }
      >
        {m.form.beyond}
      </Empty>
    );
  const change = (next: Partial<Terms>) => {
    const all = { ...terms, ...next };
    const text = writeTerms(all);
    setKept({ typed: text, from: typed, settled: text === typed, terms: all });
    if (text !== typed) onTyped(text);
  };
  const picked = kind === "logs" ? (oneWorkload ? [] : ["workload"]) : ["type", "reason"];
  const pickOf = (field: string) => terms.fields.find((f) => f.field === field && f.relation === "=");
  const picks = picked.map(pickOf);
  const rows = terms.fields.map((f, i) => ({ f, i })).filter(({ f }) => !picks.includes(f));
  const withPick = (field: string, value: string) => {
    const old = pickOf(field);
    const others = terms.fields.filter((f) => f !== old);
    change({ fields: value === "" ? others : [{ field, relation: "=", value }, ...others] });
  };
  const withRow = (i: number, next: FieldTerm | undefined) => change({ fields: next === undefined ? terms.fields.filter((_, j) => j !== i) : terms.fields.map((f, j) => (j === i ? next : f)) });
  return (
    <div className={classes.form} role="group" aria-label={m.form.label(what)}>
      <Committed key={`words ${writeWords(terms.words)}`} label={m.form.words} placeholder={m.form.wordsHint} title={m.form.wordsNote} value={writeWords(terms.words)} onCommit={(text) => change({ words: readWords(text) })} />
      {kind === "logs" ? (
        <MultiSelect
          size="xs"
          className={classes.formPick}
          label={m.form.level}
          placeholder={terms.levels.length === 0 ? m.form.anyLevel : ""}
          clearable
          data={[...new Set([...levels.filter((l) => l !== "other"), ...terms.levels])].map((l) => ({ value: l, label: levelName(l as (typeof levels)[number]) }))}
          value={[...terms.levels]}
          onChange={(next) => change({ levels: next })}
        />
      ) : null}
      {picked.map((field) => (
        <Pick key={field} cluster={cluster} base={base} field={field} value={pickOf(field)?.value ?? ""} onChange={(value) => withPick(field, value)} />
      ))}
      {rows.map(({ f, i }) => (
        <FieldRow key={i} cluster={cluster} base={base} names={names.data ?? []} term={f} onChange={(next) => withRow(i, next)} />
      ))}
      <Button size="compact-xs" variant="default" className={classes.formAdd} leftSection={<IconPlus size={13} />} disabled={rows.some(({ f }) => f.value === "")} onClick={() => change({ fields: [...terms.fields, { field: "", relation: "=", value: "" }] })}>
        {m.form.add}
      </Button>
      {terms.rest.length > 0 || terms.options !== "" || terms.pipes !== "" ? (
        <div className={classes.formRest}>
          {m.form.also}
          {terms.rest.map((t, i) => (
            <Pill key={i} withRemoveButton removeButtonProps={{ "aria-label": m.form.removeRest(t) }} onRemove={() => change({ rest: terms.rest.filter((_, j) => j !== i) })}>
              {t}
            </Pill>
          ))}
          {(["options", "pipes"] as const).map((part) =>
            terms[part] === "" ? null : (
              <Pill key={part} withRemoveButton removeButtonProps={{ "aria-label": m.form.removeRest(terms[part]) }} onRemove={() => change(part === "options" ? { options: "" } : { pipes: "" })}>
                {terms[part]}
              </Pill>
            ),
          )}
        </div>
      ) : null}
      <div className={classes.formRest}>
        {m.form.asLogsQL} {typed === "" ? m.form.everything : <Code>{typed}</Code>}
        {typed === "" ? null : (
          <Button size="compact-xs" variant="subtle" onClick={() => change(noTerms)}>
            {m.form.clear}
          </Button>
        )}
      </div>
    </div>
  );
}

/** A text that counts once it is finished: with Enter, or when the reader goes on. */
function Committed({ label, placeholder, title, value, onCommit }: { label: string; placeholder: string; title: string; value: string; onCommit: (text: string) => void }) {
  const [text, setText] = useState(value);
  const commit = () => {
    if (text !== value) onCommit(text);
  };
  return (
    <TextInput
      size="xs"
      className={classes.formWords}
      label={label}
      placeholder={placeholder}
      title={title}
      value={text}
      onChange={(e) => setText(e.currentTarget.value)}
      onBlur={commit}
      onKeyDown={(e) => e.key === "Enter" && commit()}
      spellCheck={false}
      autoComplete="off"
    />
  );
}

/** One field that many search by, with the values that there are. */
function Pick({ cluster, base, field, value, onChange }: { cluster: ClusterId | undefined; base: string; field: string; value: string; onChange: (value: string) => void }) {
  const values = useFieldValues(cluster, base, field, true);
  const data = [...new Set([...(values.data ?? []), ...(value === "" ? [] : [value])])];
  return (
    <Select
      size="xs"
      className={classes.formPick}
      label={m.form.picks[field]?.label ?? field}
      placeholder={m.form.picks[field]?.any ?? ""}
      searchable
      clearable
      limit={100}
      data={data}
      value={value === "" ? null : value}
      onChange={(v) => onChange(v ?? "")}
    />
  );
}

function FieldRow({ cluster, base, names, term, onChange }: { cluster: ClusterId | undefined; base: string; names: readonly string[]; term: FieldTerm; onChange: (next: FieldTerm | undefined) => void }) {
  const values = useFieldValues(cluster, base, term.field, term.field !== "_msg" && term.field !== "_time");
  // What is being written; it counts once it is finished.
  const [draft, setDraft] = useState<{ of: FieldTerm; field: string; value: string }>();
  const field = draft?.of === term ? draft.field : term.field;
  const value = draft?.of === term ? draft.value : term.value;
  const commit = (next: Partial<FieldTerm>) => {
    const whole = { ...term, field: field.trim(), value, ...next };
    if (whole.field !== term.field || whole.value !== term.value || whole.relation !== term.relation) onChange(whole);
  };
  return (
    <div className={classes.formRow}>
      <Autocomplete
        size="xs"
        aria-label={m.form.field}
        placeholder={m.form.field}
        limit={100}
        data={names.filter((n) => !n.startsWith("_stream") && n !== "_time")}
        value={field}
        onChange={(v) => setDraft({ of: term, field: v, value })}
        onOptionSubmit={(v) => commit({ field: v })}
        onBlur={() => commit({})}
        onKeyDown={(e) => e.key === "Enter" && commit({})}
      />
      <Select
        size="xs"
        w={130}
        aria-label={m.form.relation}
        allowDeselect={false}
        data={relations.map((r) => ({ value: r, label: m.form.relations[r] ?? r }))}
        value={term.relation}
        onChange={(r) => commit({ relation: relations.find((x): x is Relation => x === r) ?? "=" })}
      />
      <Autocomplete
        size="xs"
        className={classes.formValue}
        aria-label={m.form.value}
        placeholder={m.form.value}
        limit={100}
        data={term.field === "" ? [] : [...new Set(values.data ?? [])]}
        value={value}
        onChange={(v) => setDraft({ of: term, field, value: v })}
        onOptionSubmit={(v) => commit({ value: v })}
        onBlur={() => commit({})}
        onKeyDown={(e) => e.key === "Enter" && commit({})}
      />
      <ActionIcon variant="subtle" size="md" aria-label={m.form.remove(term.field)} onClick={() => onChange(undefined)}>
        <IconX size={14} />
      </ActionIcon>
    </div>
  );
}
