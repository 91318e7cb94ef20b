import { type KeyboardEvent, useDeferredValue, useEffect, useEffectEvent, useState } from "react";

/** Text stays with its field for so long after the last key before it is kept. */
export const restMillis = 250;

export interface Typed {
  /** What stands in the field. */
  readonly text: string;
  /** What to search by: it follows the text when the page has time, so that a key never waits for rows. */
  readonly search: string;
  /** Whether what is shown is still that of the text before. */
  readonly behind: boolean;
  readonly type: (text: string) => void;
  /** Keeps what was typed at once. */
  readonly settle: () => void;
  readonly onKeyDown: (e: KeyboardEvent) => void;
}

/**
 * The text of a field that is kept elsewhere, as in the URL, where each change costs more than a key may.
 * It is kept when the typing rests, with Enter, and when the field is left. What changes it from outside,
 * as Back or a link, wins. A field that goes away with its page keeps nothing: by then the URL is another page's.
 */
export function useTyped(kept: string, keep: (text: string) => void): Typed {
  // sent is what was given to keep last: its return is no change from outside.
  const [state, setState] = useState({ text: kept, kept, sent: kept });
  if (state.kept !== kept) setState({ text: kept === state.sent ? state.text : kept, kept, sent: kept });
  const { text } = state;
  const search = useDeferredValue(text);
  const settle = () => {
    if (text === kept) return;
    setState((s) => ({ ...s, sent: text }));
    keep(text);
  };
  const rested = useEffectEvent(settle);
  useEffect(() => {
    if (text === kept) return undefined;
    const timer = setTimeout(rested, restMillis);
    return () => clearTimeout(timer);
  }, [text, kept]);
  return {
    text,
    search,
    behind: search !== text,
    type: (text) => setState((s) => ({ ...s, text })),
    settle,
    onKeyDown: (e) => {
      if (e.key === "Enter") settle();
    },
  };
}
