import { ActionIcon, Button, Checkbox, MultiSelect, NativeSelect, NumberInput, PasswordInput, Select, TagsInput, Textarea, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { IconTrash } from "@tabler/icons-react";
import { useState } from "react";
import { examples } from "@/i18n/examples";
import { notifications as m } from "@/i18n/notifications";
import { StateLabel } from "@/ui/state";
import classes from "./notifications.module.css";
import { useBodyPreview } from "./queries";
import { type Channel, channels, type Field, headerLines, isMasked, ofChannel, parseHeaders, read, type TargetSpec, write } from "./target";

const t = m.targets;

interface Props {
  readonly spec: TargetSpec;
  /** Names of the targets that can stand in for this one. */
  readonly others: readonly string[];
  readonly isNew: boolean;
  readonly onChange: (spec: TargetSpec) => void;
}

/** All that a target can be told: its channel's own things first, then what all of them have. */
export function TargetFields({ spec, others, isNew, onChange }: Props) {
  const set = (path: string, value: unknown) => onChange(write(spec, path, value));
  return (
    <>
      <Select
        label={t.channel}
        allowDeselect={false}
        disabled={!isNew}
        value={spec.type}
        onChange={(type) => type !== null && onChange(ofChannel(spec, type))}
        data={(Object.keys(channels) as Channel[]).map((c) => ({ value: c, label: t.channels[c] ?? c }))}
      />
      {channels[spec.type].map((f) => (
        <OneField key={`${spec.type} ${f.path}`} field={f} value={read(spec, f.path)} onChange={(v) => set(f.path, v)} />
      ))}
      {spec.type === "webhook" ? <WebhookBody spec={spec} onChange={onChange} /> : null}
      <details className={classes.more}>
        <summary>{t.more}</summary>
        <div className={classes.stack}>
          <CalendarFields spec={spec} others={others} onChange={onChange} />
          <Select label={t.fallback} description={t.fallbackText} clearable data={[...others]} value={spec.fallback ?? null} onChange={(v) => set("fallback", v)} />
          <MultiSelect label={t.evidence} description={t.evidenceText} data={["series", "events", "logs"].map((e) => ({ value: e, label: t.evidences[e] ?? e }))} value={spec.evidence ?? []} onChange={(v) => set("evidence", v)} />
          <Select label={t.timezone} description={t.timezoneText} clearable searchable limit={200} data={["UTC", ...Intl.supportedValuesOf("timeZone")]} value={spec.timezone ?? null} onChange={(v) => set("timezone", v)} />
          <div className={classes.row}>
            <NumberInput label={t.rateCount} min={1} max={10000} w={160} value={spec.rateLimit?.count ?? ""} onChange={(v) => onChange(v === "" ? write(spec, "rateLimit", undefined) : { ...spec, rateLimit: { count: Number(v), per: spec.rateLimit?.per ?? "1h" } })} />
            {spec.rateLimit ? <TextInput label={t.ratePer} w={90} value={spec.rateLimit.per} onChange={(e) => onChange({ ...spec, rateLimit: { count: spec.rateLimit?.count ?? 1, per: e.currentTarget.value.trim() } })} /> : null}
            <NumberInput label={t.maxBytes} min={4096} max={1048576} step={4096} w={160} value={spec.maxBytes ?? ""} onChange={(v) => set("maxBytes", v === "" ? undefined : Number(v))} />
          </div>
          <TextInput label={t.heartbeat} description={t.heartbeatText} w={260} value={spec.heartbeat?.every ?? ""} onChange={(e) => set("heartbeat.every", e.currentTarget.value.trim())} />
          <Checkbox label={t.selfWatch} checked={spec.selfWatch === true} onChange={(e) => set("selfWatch", e.currentTarget.checked)} />
        </div>
      </details>
    </>
  );
}

function OneField({ field, value, onChange }: { field: Field; value: unknown; onChange: (value: unknown) => void }) {
  const words = t.fields[field.path] ?? { label: field.path };
  const shared = { label: words.label, description: words.text, withAsterisk: field.required === true };
  const text = typeof value === "string" ? value : "";
  switch (field.kind) {
    case "list":
      return <TagsInput {...shared} value={Array.isArray(value) ? value.map(String) : []} onChange={onChange} acceptValueOnBlur />;
    case "number":
      return <NumberInput {...shared} w={220} allowDecimal={false} hideControls value={typeof value === "number" ? value : ""} onChange={(v) => onChange(v === "" ? undefined : Number(v))} />;
    case "tls":
      return <NativeSelect {...shared} w={220} value={text} onChange={(e) => onChange(e.currentTarget.value)} data={[{ value: "", label: t.tls.default }, { value: "starttls", label: t.tls.starttls }, { value: "implicit", label: t.tls.implicit }, { value: "none", label: t.tls.none }]} />;
    case "secret":
      return <Kept {...shared} value={text} onChange={onChange} secret />;
    case "address":
      return <Kept {...shared} value={text} onChange={onChange} placeholder={examples.url} />;
    case "text":
      return <TextInput {...shared} value={text} onChange={(e) => onChange(e.currentTarget.value)} />;
  }
}

/** What the server holds and does not show: an empty field stands for it, and leaves it as it is. */
function Kept({ value, onChange, secret = false, placeholder, ...shared }: { label: string; description: string | undefined; withAsterisk: boolean; value: string; onChange: (value: unknown) => void; secret?: boolean; placeholder?: string }) {
  // What came from the server, to which an emptied field returns.
  const [held] = useState(isMasked(value) ? value : undefined);
  const props = {
    ...shared,
    value: held !== undefined && value === held ? "" : value,
    placeholder: held === undefined ? (placeholder ?? "") : secret ? t.held : t.heldAddress(held),
    autoComplete: "off",
    onChange: (e: { currentTarget: { value: string } }) => onChange(e.currentTarget.value === "" ? held : e.currentTarget.value.trim()),
  };
  return secret ? <PasswordInput {...props} visibilityToggleButtonProps={{ "aria-label": t.reveal }} /> : <TextInput {...props} />;
}

const formats = ["crowsnest/v1", "alertmanager/v4", "tencent/callback", "template"] as const;
const firstTemplate = `{
  "text": "[{{ .incident.severity }}] {{ .incident.title }}",
  "link": "{{ .incident.url }}",
  "alerts": [{{ range $i, $a := .alerts }}{{ if $i }}, {{ end }}"{{ $a.explanation }}"{{ end }}]
}`;

/** How a webhook's body looks, shown as it would be sent. */
function WebhookBody({ spec, onChange }: { spec: TargetSpec; onChange: (spec: TargetSpec) => void }) {
  const format = spec.format ?? "crowsnest/v1";
  const [headers, setHeaders] = useState(headerLines(spec.headers));
  const shape = { format, ...(spec.template ? { template: spec.template } : {}), ...(spec.timezone ? { timezone: spec.timezone } : {}) };
  const [settled] = useDebouncedValue(shape, 300);
  const preview = useBodyPreview(settled, format !== "template" || (settled.template?.body ?? "") !== "");
  return (
    <>
      <NativeSelect
        label={t.format}
        value={format}
        onChange={(e) => {
          const chosen = formats.find((f) => f === e.currentTarget.value) ?? "crowsnest/v1";
          const bare = write(spec, "template", undefined);
          onChange({ ...bare, format: chosen, ...(chosen === "template" ? { template: spec.template ?? { body: firstTemplate } } : {}) });
        }}
        data={formats.map((f) => ({ value: f, label: t.formats[f] ?? f }))}
      />
      {format === "template" ? (
        <>
          <Textarea label={t.template} description={t.templateText} autosize minRows={5} maxRows={20} spellCheck={false} classNames={{ input: classes.code }} value={spec.template?.body ?? ""} onChange={(e) => onChange({ ...spec, template: { ...spec.template, body: e.currentTarget.value } })} />
          <TextInput label={t.contentType} placeholder={examples.contentType} value={spec.template?.contentType ?? ""} onChange={(e) => onChange(write(spec, "template.contentType", e.currentTarget.value.trim()))} />
        </>
      ) : null}
      <section aria-label={t.preview}>
        <p className={classes.quiet}>{t.preview}</p>
        {preview.error ? (
          <StateLabel state="warning">{preview.error.message}</StateLabel>
        ) : preview.data ? (
          <>
            {preview.data.fault === "" ? null : <StateLabel state="warning">{preview.data.fault}</StateLabel>}
            <pre className={classes.preview} tabIndex={0}>
              {pretty(preview.data.body)}
            </pre>
          </>
        ) : null}
      </section>
      <Textarea
        label={t.headers}
        description={t.headersText}
        autosize
        minRows={1}
        maxRows={8}
        spellCheck={false}
        classNames={{ input: classes.code }}
        value={headers}
        onChange={(e) => {
          setHeaders(e.currentTarget.value);
          onChange(write(spec, "headers", parseHeaders(e.currentTarget.value)));
        }}
      />
    </>
  );
}

/** JSON that people read; anything else as it is. */
function pretty(body: string): string {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

const weekdays = Object.entries(m.maintenance.weekdays).map(([day, label]) => ({ value: { MO: "mon", TU: "tue", WE: "wed", TH: "thu", FR: "fri", SA: "sat", SU: "sun" }[day] ?? day, label }));

/** When the target may be told of something new. */
function CalendarFields({ spec, others, onChange }: { spec: TargetSpec; others: readonly string[]; onChange: (spec: TargetSpec) => void }) {
  const { calendar } = spec;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const within = calendar?.within ?? [];
  const set = (change: Partial<NonNullable<typeof calendar>>) => onChange({ ...spec, calendar: { timezone: zone, ...calendar, within, ...change } });
  const row = (at: number, change: object) => set({ within: within.map((w, i) => (i === at ? { ...w, ...change } : w)) });
  return (
    <fieldset className={classes.calendar}>
      <legend>{t.calendar}</legend>
      <Checkbox
        label={t.calendarOn}
        checked={calendar !== undefined}
        onChange={(e) => (e.currentTarget.checked ? set({ within: [{ days: ["mon", "tue", "wed", "thu", "fri"], from: "08:00", to: "18:00" }] }) : onChange(write(spec, "calendar", undefined)))}
      />
      {calendar === undefined ? null : (
        <>
          {within.map((w, i) => (
            <div key={i} className={classes.row}>
              <MultiSelect size="xs" aria-label={m.maintenance.days} placeholder={(w.days ?? []).length === 0 ? m.maintenance.everyDay : ""} data={weekdays} value={w.days ?? []} onChange={(days) => row(i, { days })} w={260} />
              <TextInput size="xs" aria-label={t.from} value={w.from} onChange={(e) => row(i, { from: e.currentTarget.value.trim() })} w={80} />
              <span>–</span>
              <TextInput size="xs" aria-label={t.to} value={w.to} onChange={(e) => row(i, { to: e.currentTarget.value.trim() })} w={80} />
              <ActionIcon variant="default" aria-label={t.removeTimes} onClick={() => set({ within: within.filter((_, at) => at !== i) })}>
                <IconTrash size={14} aria-hidden />
              </ActionIcon>
            </div>
          ))}
          <div className={classes.row}>
            <Button size="compact-xs" variant="default" onClick={() => set({ within: [...within, { days: [], from: "08:00", to: "18:00" }] })}>
              {t.addTimes}
            </Button>
          </div>
          <Select size="xs" label={m.maintenance.zone} searchable allowDeselect={false} limit={200} data={[...new Set([calendar.timezone, "UTC", ...Intl.supportedValuesOf("timeZone")])]} value={calendar.timezone} onChange={(timezone) => set({ timezone: timezone ?? "UTC" })} />
          <Select
            size="xs"
            label={t.outside}
            description={t.outsideText}
            clearable
            data={[...others]}
            value={calendar.outside ?? null}
            onChange={(outside) => onChange(write(spec, "calendar.outside", outside))}
          />
        </>
      )}
    </fieldset>
  );
}
