import { ActionIcon, Button, Checkbox, Textarea, TextInput } from "@mantine/core";
import { IconArrowUp, IconPlus, IconTrash } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { type SyntheticEvent, useState } from "react";
import { RequestError } from "@/api/problem";
import type { components } from "@/api/schema";
import { examples } from "@/i18n/examples";
import { logRules as m } from "@/i18n/logRules";
import { Card, Section } from "@/ui/Bits";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import classes from "./cluster.module.css";
import { entries, formOf, isLimit, limits, type LogForm, multilineAt, multilineBlank, type MultilineField, type MultilineForm, multilineLists, multilineMost, placed, type RuleField, selectors, settingsOf } from "./rules";
import { useChangeSettings, useSettings } from "./queries";

type ClusterSettings = components["schemas"]["ClusterSettings"];

/** Which lines of a cluster are collected, what is masked in them, and how many one container may write. */
export default function LogRules({ cluster }: { cluster: string }) {
  const settings = useSettings(cluster);
  return (
    <Section title={m.title} note={settings.data && settings.data.version > 0 ? m.version(settings.data.version) : undefined}>
      <Loaded query={settings} what={m.title} skeleton={<TableSkeleton rows={8} />}>
        {(present) => (
          <div className={classes.stack}>
            <InForce settings={present} />
            <Editor cluster={cluster} present={present} />
          </div>
        )}
      </Loaded>
    </Section>
  );
}

/** The form, which others' changes do not write over: it begins anew when it was saved, or when theirs are taken. */
function Editor({ cluster, present }: { cluster: string; present: ClusterSettings }) {
  const [start, setStart] = useState(present);
  return <Form key={start.version} cluster={cluster} start={start} onStart={setStart} present={present} />;
}

/** What the collectors made of the newest version. */
function InForce({ settings: { version, collectors } }: { settings: ClusterSettings }) {
  const connected = collectors.filter((c) => c.connected);
  const took = connected.filter((c) => c.applied_version === version && !c.error);
  const refused = connected.filter((c) => c.error);
  const own = connected.filter((c) => Object.keys(c.overridden ?? {}).some((k) => k === "logs" || k.startsWith("log")));
  return (
    <Card>
      <div>{version === 0 ? m.none : m.inForce(took.length, connected.length)}</div>
      {refused.map((c) => (
        <StateLabel key={c.sender} state="warning">
          {m.refused(c.sender, c.error ?? "")}
        </StateLabel>
      ))}
      {own.length > 0 ? <div className={classes.quiet}>{m.own(own.map((c) => c.sender))}</div> : null}
    </Card>
  );
}

interface FormProps {
  readonly cluster: string;
  readonly start: ClusterSettings;
  readonly present: ClusterSettings;
  readonly onStart: (from: ClusterSettings) => void;
}

function Form({ cluster, start, present, onStart }: FormProps) {
  const [form, setForm] = useState<LogForm>(() => formOf(start.settings));
  const save = useChangeSettings(cluster);
  const stale = save.error instanceof RequestError && save.error.status === 409;
  const { at, left } = placed(save.error instanceof RequestError ? save.error.fields : [], save.variables?.form ?? form);
  const set = (change: Partial<LogForm>) => {
    setForm({ ...form, ...change });
  };
  // What was said of a rule by its place is said of another once they move.
  const setRules = (multiline: readonly MultilineForm[]) => {
    save.reset();
    set({ multiline });
  };
  const shared = (name: RuleField) => ({
    label: m.fields[name].label,
    description: m.fields[name].text,
    value: form[name],
    error: at[name],
    spellCheck: false,
    autoComplete: "off",
    onChange: (e: { currentTarget: { value: string } }) => set({ [name]: e.currentTarget.value }),
  });
  const list = (name: "namespaces" | "workloads" | "services" | "mask") => <Textarea {...shared(name)} placeholder={examples.logRules[name]} autosize minRows={2} maxRows={12} classNames={{ input: classes.code, error: classes.wrong }} />;
  return (
    <form
      className={classes.rules}
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        save.mutate({ version: start.version, settings: settingsOf(form, start.settings), form }, { onSuccess: onStart });
      }}
    >
      <Checkbox label={m.follow} description={m.followText} checked={form.follow} onChange={(e) => set({ follow: e.currentTarget.checked })} />
      <fieldset disabled={!form.follow}>
        <legend>{m.which}</legend>
        <p className={classes.quiet}>{m.whichText}</p>
        {list("namespaces")}
        {list("workloads")}
        {list("services")}
        {selectors.map((name) => (
          <TextInput key={name} {...shared(name)} placeholder={examples.logRules[name]} classNames={{ input: classes.code, error: classes.wrong }} />
        ))}
      </fieldset>
      <fieldset disabled={!form.follow}>
        <legend>{m.masked}</legend>
        {list("mask")}
        {entries(form.mask).length > 0 ? (
          <ul className={classes.tries} aria-label={m.tries}>
            {entries(form.mask)
              .slice(0, 32)
              .map((p, i) => (
                <li key={i}>
                  <Try cluster={cluster} pattern={p} />
                </li>
              ))}
          </ul>
        ) : null}
      </fieldset>
      <fieldset disabled={!form.follow}>
        <legend>{m.multiline.title}</legend>
        <p className={classes.quiet}>{m.multiline.text}</p>
        {form.multiline.map((rule, i) => (
          <MultilineRule
            key={i}
            cluster={cluster}
            rule={rule}
            index={i}
            at={at}
            onChange={(change) => set({ multiline: form.multiline.with(i, { ...rule, ...change }) })}
            onRemove={() => setRules(form.multiline.filter((_, other) => other !== i))}
            onEarlier={() => setRules(form.multiline.with(i - 1, rule).with(i, form.multiline[i - 1] ?? rule))}
          />
        ))}
        <div>
          <Button size="compact-sm" variant="default" leftSection={<IconPlus size={14} />} disabled={form.multiline.length >= multilineMost} onClick={() => setRules([...form.multiline, multilineBlank])}>
            {m.multiline.add}
          </Button>
        </div>
      </fieldset>
      <fieldset disabled={!form.follow}>
        <legend>{m.limits}</legend>
        <p className={classes.quiet}>{m.limitsText}</p>
        {limits.map((name) => (
          <TextInput key={name} {...shared(name)} inputMode="numeric" placeholder={m.noLimit} w={220} error={at[name] ?? (isLimit(form[name]) ? undefined : m.notWhole)} />
        ))}
      </fieldset>
      {left.map((l) => (
        <StateLabel key={l} state="critical">
          {l}
        </StateLabel>
      ))}
      {save.error && !stale && left.length === 0 && Object.keys(at).length === 0 ? <StateLabel state="critical">{save.error.message}</StateLabel> : null}
      {stale || present.version > start.version ? (
        <div role="alert" className={classes.inline}>
          <StateLabel state="warning">{m.moved(present.version)}</StateLabel>
          <Button size="compact-xs" variant="default" onClick={() => onStart(present)}>
            {m.takeTheirs}
          </Button>
        </div>
      ) : null}
      <div className={classes.inline}>
        <Button size="xs" type="submit" loading={save.isPending} disabled={limits.some((name) => !isLimit(form[name]))}>
          {m.save}
        </Button>
        <span className={classes.quiet}>{m.saveText}</span>
      </div>
    </form>
  );
}

/** Opens the lines in which a pattern matches. */
function Try({ cluster, pattern }: { cluster: string; pattern: string }) {
  return (
    <Link to="/logs" search={{ q: `cluster:=${JSON.stringify(cluster)} ~${JSON.stringify(pattern)}` }} target="_blank">
      {m.try(pattern)}
    </Link>
  );
}

interface MultilineProps {
  readonly cluster: string;
  readonly rule: MultilineForm;
  readonly index: number;
  readonly at: Readonly<Record<string, string>>;
  readonly onChange: (change: Partial<MultilineForm>) => void;
  readonly onRemove: () => void;
  readonly onEarlier: () => void;
}

/** How the lines of the containers that a rule selects become records. */
function MultilineRule({ cluster, rule, index, at, onChange, onRemove, onEarlier }: MultilineProps) {
  const text = (name: MultilineField) => (
    <TextInput
      label={m.multiline.fields[name]}
      value={rule[name]}
      error={at[multilineAt(index, name)]}
      placeholder={examples.multiline[name]}
      spellCheck={false}
      autoComplete="off"
      onChange={(e) => onChange({ [name]: e.currentTarget.value })}
      classNames={{ input: classes.code, error: classes.wrong }}
    />
  );
  return (
    <div role="group" aria-label={m.multiline.rule(index + 1)} className={classes.rule}>
      <div className={classes.ruleHead}>
        <b>{m.multiline.rule(index + 1)}</b>
        {index > 0 ? (
          <ActionIcon variant="default" aria-label={m.multiline.earlier(index + 1)} title={m.multiline.earlier(index + 1)} onClick={onEarlier}>
            <IconArrowUp size={14} />
          </ActionIcon>
        ) : null}
        <ActionIcon variant="default" aria-label={m.multiline.remove(index + 1)} title={m.multiline.remove(index + 1)} onClick={onRemove}>
          <IconTrash size={14} />
        </ActionIcon>
      </div>
      <div className={classes.ruleFields}>
        {multilineLists.map((name) => (
          <div key={name}>{text(name)}</div>
        ))}
        {selectors.map((name) => (
          <div key={name}>{text(name)}</div>
        ))}
      </div>
      <Checkbox label={m.multiline.off} checked={rule.off} onChange={(e) => onChange({ off: e.currentTarget.checked })} />
      {rule.off ? null : text("start")}
      {rule.off || rule.start === "" ? null : (
        <div className={classes.tries}>
          <Try cluster={cluster} pattern={rule.start} />
        </div>
      )}
    </div>
  );
}
