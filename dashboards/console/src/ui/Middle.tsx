import type { CSSProperties } from "react";
import { digitsWide, endOf } from "./cut";
import classes from "./Middle.module.css";

/**
 * A name that, where it has too little room, is cut in its middle: generated names differ at their ends. Copied it is whole. Its two
 * parts are no words of their own, so that a link around it says the name as its label.
 */
export function Middle({ text }: { text: string }) {
  const end = endOf(text);
  if (end === "") return <span title={text}>{text}</span>;
  return (
    <span title={text} data-middle style={{ "--tail": `${digitsWide(end).toFixed(1)}ch` } as CSSProperties}>
      <span className={classes.head}>{text.slice(0, -end.length)}</span>
      {end}
    </span>
  );
}
