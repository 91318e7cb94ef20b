import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { lintKeymap } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import { type Ref, useEffect, useImperativeHandle, useRef } from "react";
import { request } from "@/api/request";
import { explore as m } from "@/i18n/explore";
import classes from "./explore.module.css";

export interface PromEditorHandle {
  /** Puts text where the cursor is, in place of what is selected. */
  readonly insert: (text: string) => void;
}

interface Props {
  readonly ref?: Ref<PromEditorHandle>;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly onRun: (value: string) => void;
  readonly onFocus?: () => void;
}

// Shades of the text's own colour: colour means state, also here.
const highlight = HighlightStyle.define([
  { tag: tags.function(tags.variableName), fontWeight: "600" },
  { tag: tags.keyword, fontWeight: "600" },
  { tag: tags.string, color: "var(--text-2)" },
  { tag: tags.number, color: "var(--text-2)" },
  { tag: tags.comment, color: "var(--text-3)", fontStyle: "italic" },
]);

/** A line of PromQL with completion of metrics, labels and values, and with what is wrong underlined. Ctrl-Enter or Enter runs it. */
export default function PromEditor({ ref, value, onChange, onRun, onFocus }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const latest = useRef({ onChange, onRun, onFocus });
  useEffect(() => {
    latest.current = { onChange, onRun, onFocus };
  });
  const first = useRef(value);
  useImperativeHandle(ref, () => ({
    insert: (text) => {
      const v = view.current;
      if (!v) return;
      v.dispatch(v.state.replaceSelection(text));
      v.focus();
    },
  }));

  useEffect(() => {
    const parent = box.current;
    if (!parent) return;
    const promql = new PromQLExtension().setComplete({
      remote: { url: "", fetchFn: (input: RequestInfo, init?: RequestInit) => request(input instanceof Request ? input : input, init), lookbackInterval: 3600_000 },
    });
    const run = (v: EditorView) => {
      latest.current.onRun(v.state.doc.toString());
      return true;
    };
    const v = new EditorView({
      parent,
      state: EditorState.create({
        doc: first.current,
        extensions: [
          keymap.of([
            { key: "Mod-Enter", run },
            { key: "Shift-Enter", run: () => false },
          ]),
          history(),
          closeBrackets(),
          bracketMatching(),
          autocompletion(),
          syntaxHighlighting(highlight),
          promql.asExtension(),
          keymap.of([...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...lintKeymap, { key: "Enter", run }, ...defaultKeymap]),
          placeholder(m.placeholder),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": "PromQL" }),
          EditorView.updateListener.of((u) => {
            if (u.focusChanged && u.view.hasFocus) latest.current.onFocus?.();
            if (u.docChanged) latest.current.onChange(u.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = v;
    return () => {
      v.destroy();
      view.current = null;
    };
  }, []);

  // What was chosen elsewhere (a metric, Back) comes in; what is typed here goes out only.
  useEffect(() => {
    const v = view.current;
    if (v && v.state.doc.toString() !== value) v.dispatch({ changes: { from: 0, to: v.state.doc.length, insert: value } });
  }, [value]);

  return <div ref={box} className={classes.editor} />;
}
