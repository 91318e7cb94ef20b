import { endOf } from "./cut";
import classes from "./Middle.module.css";

/**
 * A name that, where it has too little room, is cut in its middle: generated names differ at their ends. The end that is seen is drawn
 * by the style sheet, which does not say it; the name's own stands behind the rest without width, so that what is copied, searched for
 * or read aloud is whole. Nothing is measured. A link around it needs no label: axe would hold it against the part that is seen.
 */
export function Middle({ text }: { text: string }) {
  const end = endOf(text);
  if (end === "") return <span title={text}>{text}</span>;
  return (
    <span title={text} className={classes.middle} data-end={end}>
      <span className={classes.head}>
        {text.slice(0, -end.length)}
        <span className={classes.end}>{end}</span>
      </span>
    </span>
  );
}
