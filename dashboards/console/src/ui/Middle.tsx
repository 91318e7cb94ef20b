import { endOf } from "./cut";
import classes from "./Middle.module.css";

/**
 * A name that, where it has too little room, is cut in its middle: generated names differ at their ends. The end that is seen is drawn
 * by the style sheet; the name's own stands behind the rest without width, so that what is copied or searched for is whole. Nothing is
 * measured. A link around it says the name as its label.
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
