import { expect, it } from "vitest";
import { formOf, multilineBlank, placed, type Settings, settingsOf } from "./rules";

const whole: Settings = {
  interval_seconds: 10,
  logs: true,
  log_rules: {
    namespaces: ["shop", "!kube-system"], workloads: ["deployment/cart"], services: ["shop/*"], mask: ["card \\d{4}", " id=\\w+"],
    selector: "tier=web", annotations: "a=b", lines_per_second: 100, bytes_per_second: 2000, record_bytes: 3000,
    multiline: [{ namespaces: ["shop", "!kube-*"], workloads: ["deployment/cart"], containers: ["app"], selector: "tier=web", annotations: "a=b", start: " ^\\d+, " }, { off: true }],
  },
  raw: { families: ["cadvisor"] },
};

it.each([
  { what: "nothing", settings: {} },
  { what: "all", settings: whole },
  { what: "no logs", settings: { logs: false, queue_bytes: 1 << 30 } },
])("gives back what it was made of: $what", ({ settings }) => expect(settingsOf(formOf(settings), settings)).toEqual(settings));

it.each([
  { what: "lists have no empty lines, and names no blanks", change: { namespaces: " shop \n\n team-*\r\n", mask: " a \n" }, want: { ...whole, log_rules: { ...whole.log_rules, namespaces: ["shop", "team-*"], mask: [" a "] } } },
  { what: "what is emptied is left out", change: { namespaces: "", workloads: " ", services: "", mask: "", selector: " ", annotations: "", lines_per_second: "", bytes_per_second: "", record_bytes: "", multiline: [] }, want: { interval_seconds: 10, logs: true, raw: whole.raw } },
  { what: "logs are switched off", change: { follow: false }, want: { ...whole, logs: false } },
  { what: "a rule on records that is off has no pattern, and one without any is sent", change: { multiline: [{ ...multilineBlank, workloads: " */a ,,", start: "^a", off: true }, multilineBlank] }, want: { ...whole, log_rules: { ...whole.log_rules, multiline: [{ workloads: ["*/a"], off: true }, {}] } } },
  { what: "a limit of 0 is sent", change: { record_bytes: "0" }, want: { ...whole, log_rules: { ...whole.log_rules, record_bytes: 0 } } },
])("reads the form: $what", ({ change, want }) => expect(settingsOf({ ...formOf(whole), ...change }, whole)).toEqual(want));

it("says what is wrong at its field, with the entry that it is of", () => {
  const form = { ...formOf({}), namespaces: "shop\n\n[a", mask: "(", multiline: [multilineBlank, { ...multilineBlank, workloads: "*/a, cart", start: "(" }] };
  const { at, left } = placed(
    [
      { location: "body.settings.log_rules.namespaces[1]", message: "is no pattern" },
      { location: "body.settings.log_rules.mask[0]", message: "is no regular expression" },
      { location: "body.settings.log_rules.mask", message: "at most 32 entries" },
      { location: "body.settings.log_rules.multiline[0]", message: "needs a start" },
      { location: "body.settings.log_rules.multiline[1].start", message: "is no regular expression" },
      { location: "body.settings.log_rules.multiline[1].workloads[1]", message: "must be type/name" },
      { location: "body.settings.log_rules.multiline[9].start", message: "is of none" },
      { location: "body.settings.interval_seconds", message: "must be one of 10, 15" },
      { location: "body.settings.log_rules.nosuch", message: "unknown" },
    ],
    form,
  );
  expect(at).toEqual({ namespaces: "[a: is no pattern", mask: "(: is no regular expression\nat most 32 entries", "multiline[0].start": "needs a start", "multiline[1].start": "(: is no regular expression", "multiline[1].workloads": "cart: must be type/name" });
  expect(left).toEqual(["log_rules.multiline[9].start: is of none", "interval_seconds: must be one of 10, 15", "log_rules.nosuch: unknown"]);
});
