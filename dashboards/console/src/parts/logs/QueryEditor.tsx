import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, closeCompletion, type Completion, type CompletionContext, completionKeymap, type CompletionResult, completionStatus, moveCompletionSelection } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { EditorState, Prec } from "@codemirror/state";
import { EditorView, keymap, placeholder as placeholderOf } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";
import { queryFieldNames, queryFieldValues } from "@/api/logsql";
import { quote } from "@/api/prometheus";
import { logs as m } from "@/i18n/logs";
import type { TimeRange } from "@/ui/time";
import { functions, joins, pipes, placeAt } from "./complete";
import classes from "./logs.module.css";
import { sampled, valuesLimit } from "./queries";
import { fieldName, filters, oneLine, written } from "./terms";

export interface EditorProps {
  readonly typed: string;
  readonly onTyped: (typed: string) => void;
  readonly label: string;
  readonly placeholder: string;
  /** The LogsQL of what is searched whatever is typed: names and values are those of its rows. */
  readonly base: string;
  readonly range: TimeRange;
}

// Shades of the text's own colour: colour means state, also here.
const highlight = HighlightStyle.define([
  { tag: tags.keyword, fontWeight: "600" },
  { tag: tags.propertyName, fontWeight: "600" },
  { tag: tags.string, color: "var(--text-2)" },
  { tag: tags.operator, color: "var(--text-2)" },
  { tag: tags.comment, color: "var(--text-2)", fontStyle: "italic" },
]);

const logsql = StreamLanguage.define<{ pipe: boolean }>({
  startState: () => ({ pipe: false }),
  token(stream, state) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^("(\\.|[^"\\])*"?|'(\\.|[^'\\])*'?|`[^`]*`?)/)) return "string";
    if (stream.match(/^#.*/)) return "comment";
    if (stream.match("|")) {
      state.pipe = true;
      return "operator";
    }
    if (state.pipe && stream.match(/^\w+/)) {
      state.pipe = false;
      return "keyword";
    }
    if (stream.match(/^(and|or|not|by|as)(?![\w:.])/i)) return "keyword";
    if (stream.match(/^[\w.@/-]+(?=:)/)) return "propertyName";
    if (stream.match(/^[:=<>~!()[\],*-]+/)) return "operator";
    if (!stream.match(/^[^\s|:=<>~!()[\],*"'`-]+/)) stream.next();
    return null;
  },
});

const nothing: CompletionResult | null = null;

/** A line of LogsQL with completion of fields, values, pipes. Enter searches, Tab takes a completion. */
export default function QueryEditor({ typed, onTyped, label, placeholder, base, range }: EditorProps) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef({ typed, onTyped, base, range });
  useEffect(() => {
    latest.current = { typed, onTyped, base, range };
  });
  const first = useRef({ typed, label, placeholder });

  useEffect(() => {
    const parent = box.current;
    if (!parent) return;
    const take = (v: EditorView) => completionStatus(v.state) === "active" && (acceptCompletion(v) || (moveCompletionSelection(true)(v) && acceptCompletion(v)));
    const run = (v: EditorView) => {
      closeCompletion(v);
      latest.current.onTyped(oneLine(v.state.doc.toString()).trim());
      return true;
    };
    const back = (v: EditorView) => {
      if (v.state.doc.toString() === latest.current.typed) return false;
      v.dispatch({ changes: { from: 0, to: v.state.doc.length, insert: latest.current.typed } });
      return true;
    };
    const v = new EditorView({
      parent,
      state: EditorState.create({
        doc: first.current.typed,
        extensions: [
          history(),
          closeBrackets(),
          bracketMatching(),
          // Enter searches what is written; only what was chosen in the list is taken by it.
          // So Tab may take what has only just appeared: else it would lead out of the line, now and then.
          autocompletion({ override: [(context) => complete(context, latest.current)], selectOnOpen: false, interactionDelay: 0, icons: false, maxRenderedOptions: 60 }),
          logsql,
          syntaxHighlighting(highlight),
          Prec.high(keymap.of([{ key: "Tab", run: take }])),
          keymap.of([...closeBracketsKeymap, ...completionKeymap, { key: "Enter", run }, { key: "Mod-Enter", run }, { key: "Escape", run: back }, ...historyKeymap, ...defaultKeymap]),
          placeholderOf(first.current.placeholder),
          EditorView.lineWrapping,
          EditorView.clipboardInputFilter.of((text) => oneLine(text)),
          EditorView.contentAttributes.of({ "aria-label": first.current.label, spellcheck: "false", autocapitalize: "off" }),
        ],
      }),
    });
    view.current = v;
    return () => {
      v.destroy();
      view.current = null;
    };
  }, []);

  // What was chosen elsewhere (a field of a line, the form, Back) comes in.
  useEffect(() => {
    const v = view.current;
    if (v && v.state.doc.toString() !== typed) v.dispatch({ changes: { from: 0, to: v.state.doc.length, insert: typed }, selection: { anchor: typed.length } });
  }, [typed]);

  return <div ref={box} className={classes.editor} />;
}

/** Completions of what is being written. Names and values are asked for; when they cannot be had, there are none. */
async function complete(context: CompletionContext, { base, range }: { base: string; range: TimeRange }): Promise<CompletionResult | null> {
  const place = placeAt(context.state.sliceDoc(0, context.pos));
  const { start, end } = sampled(range, Math.floor(Date.now() / 1000));
  const stop = new AbortController();
  context.addEventListener("abort", () => stop.abort());
  const matching: Completion[] = filters.map((name) => ({ label: `${name}(`, detail: m.complete.filter, boost: -99 }));
  // A list that nobody asked for comes with the first letter.
  const begun = place.kind !== "none" && context.pos > place.from;
  try {
    switch (place.kind) {
      case "none":
        return nothing;
      case "term":
      case "field": {
        if (!begun && !context.explicit) return nothing;
        const term = place.kind === "term";
        const names = await queryFieldNames(base, start, end, stop.signal);
        const options: Completion[] = names
          .filter((name) => name !== "_stream" && name !== "_stream_id")
          .map((name, i) => {
            const written = fieldName(name);
            return { label: name, apply: term ? `${written}:` : written, detail: m.complete.field, boost: -Math.min(i, 90) };
          });
        if (term) for (const word of joins) options.push({ label: word, apply: `${word} `, detail: m.complete.word, boost: -99 });
        if (term) options.push(...matching);
        return { from: place.from, options, validFor: /^[\w.@/-]*$/ };
      }
      case "value": {
        // Of a field with many values those that begin as what is written.
        const narrowed = place.prefix === "" ? base : `${base} ${quote(place.field)}:${quote(place.prefix)}*`;
        let values = await queryFieldValues(narrowed, place.field, start, end, valuesLimit, stop.signal);
        if (values.length === 0 && place.prefix !== "") values = await queryFieldValues(base, place.field, start, end, valuesLimit, stop.signal);
        const options: Completion[] = values.map((value, i) => ({ label: place.quote === "" ? value : place.quote + value, displayLabel: value.length > 120 ? `${value.slice(0, 120)}…` : value, apply: place.quote === "" ? written(value) : quote(value), detail: m.complete.value, boost: -Math.min(i, 90) }));
        if (context.state.sliceDoc(place.from - 1, place.from) === ":" && place.quote === "") options.push(...matching);
        // closeBrackets wrote the second quote already.
        const after = place.quote !== "" && context.state.sliceDoc(context.pos, context.pos + 1) === place.quote ? context.pos + 1 : context.pos;
        return { from: place.from, to: after, options };
      }
      case "pipe":
        return { from: place.from, options: pipes.map((p) => ({ label: p, apply: `${p} `, detail: m.complete.pipe })), validFor: /^\w*$/ };
      case "function":
        return { from: place.from, options: functions.map((f) => ({ label: f, detail: m.complete.function })), validFor: /^\w*$/ };
    }
  } catch {
    return nothing;
  }
}
