import { digits, plural } from "./language";
import { messages } from "./messages";

const levelWords: Record<string, string> = { fatal: "fatal", error: "error", warn: "warn", info: "info", debug: "debug", trace: "trace", other: "other" };
const fieldWords: Record<string, string> = { namespace: "namespace", workload_type: "type", workload: "workload", pod: "pod", container: "container", node: "node" };
const relationWords: Record<string, string> = { "=": "is", "!=": "is not", ":": "contains", "!:": "does not contain", "~": "matches (RE2)", ">": "is over", ">=": "is at least", "<": "is under", "<=": "is at most" };

/** What many search by. */
const pickWords: Record<string, { label: string; any: string }> = { workload: { label: "Workload", any: "any workload" }, type: { label: "Type", any: "any type" }, reason: { label: "Reason", any: "any reason" } };

/** Log lines and events: how they are searched, and what is found. */
export const logs = messages("logs", {
  title: "Logs",
  sentence: "Every container's lines, newest first.",
  ofAll: "the logs of all clusters",
  of: (place: string) => `the logs of ${place}`,
  levels: levelWords,

  events: {
    title: "Events",
    sentence: "What Kubernetes says it did, and what it could not do.",
    ofAll: "the events of all clusters",
    of: (place: string) => `the events of ${place}`,
    list: "events",
    warnings: "warning",
    normal: "normal",
    none: "No events",
    what: "Events",
    newer: "Newer events",
    times: (n: number) => `×${digits(n)}`,
    all: (n: number) => `All ${plural(n, "event")} of this range are shown, newest first.`,
    newest: (n: number) => `The newest ${plural(n, "event")} are shown.`,
    placeholder: "Words, reason:BackOff, type:Warning … (LogsQL), Enter searches",
  },

  scope: {
    cluster: "cluster",
    all: "all clusters",
    fields: fieldWords,
    remove: (field: string) => `all of any ${field}`,
  },

  bar: {
    search: (what: string) => `search ${what}`,
    placeholder: 'Words, "a phrase", level:error, status:>=500 … (LogsQL), Enter searches',
    form: "Form",
    wrapped: "wrapped",
    oneLine: "one line",
    download: "Download",
    asText: "All lines of the range as text",
    asJson: "All lines of the range as JSON lines",
    tail: "Live tail",
    stop: "Stop tail",
    alert: "Alert on this",
    board: (what: string) => `Logs: ${what}`,
  },

  complete: {
    field: "field",
    pipe: "pipe",
    function: "function",
    filter: "filter",
    value: "value",
    word: "joins terms",
  },

  form: {
    label: (what: string) => `form that searches ${what}`,
    words: "Words",
    wordsHint: 'timeout "connection refused"',
    wordsNote: "all must be in the line; quotes hold a phrase together",
    level: "Level",
    anyLevel: "any level",
    picks: pickWords,
    field: "field",
    relation: "how it is compared",
    value: "value",
    relations: relationWords,
    add: "A further field",
    remove: (field: string) => `take ${field === "" ? "this field" : field} away`,
    and: "and",
    also: "also as written:",
    removeRest: (term: string) => `take ${term} away`,
    beyond: "This query says more than a form can show, such as “or”. Change it in the query line, or clear it.",
    clear: "Clear",
    asLogsQL: "As LogsQL:",
    everything: "everything",
  },

  histogram: {
    label: (words: string) => `rows over time: ${words}`,
    none: "none",
    noneInRange: "none in this range",
  },

  lines: {
    list: "log lines",
    what: "Log lines",
    newer: "Newer log lines",
    none: "No log lines",
    twice: "Search twice as long",
    without: (typed: string) => `Search without “${typed}”`,
    searched: (what: string, from: string, to: string, typed: string) => `Searched ${what} from ${from} to ${to}${typed === "" ? "" : ` for ${typed}`}.`,
    all: (n: number) => `All ${plural(n, "line")} of this range are shown, newest first.`,
    newest: (n: number) => `The newest ${plural(n, "line")} are shown.`,
    more: (n: number) => `Show ${digits(n)} more`,
  },

  tail: {
    connecting: "connecting…",
    live: "following",
    ended: "the server ended the stream",
    broke: "the stream broke",
    goOn: "Go on",
    pause: "Pause",
    paused: "paused",
    rate: (n: string) => `${n} lines/s`,
    wait: (n: number) => `${digits(n)} ${n === 1 ? "line waits" : "lines wait"}`,
    notDrawn: (n: number) => `${plural(n, "line")} not drawn`,
    waiting: "Waiting for the next line",
    soon: "Lines appear here as they arrive, some seconds after they were written.",
  },

  line: {
    time: "time",
    ownTime: "own time",
    theLine: "the line",
    around: "Show 50 lines around",
    hideAround: "Hide the lines around",
    policy: "Alert on lines like this",
    add: "add to query",
    addField: (field: string) => `add ${field} to the query`,
    exclude: "exclude",
    excludeField: (field: string) => `exclude this ${field}`,
  },
});
