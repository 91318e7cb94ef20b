import { type RefObject, useEffect, useState } from "react";

/** Charts that are nearer than this to what is seen are asked for, so that scrolling finds them drawn. */
const ahead = "700px";

/**
 * Whether an element has been seen, or nearly so. A pod has some fifty charts: those that nobody scrolls
 * to cost neither a query nor a canvas.
 */
export function useSeen(element: RefObject<HTMLElement | null>): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const e = element.current;
    if (!e || seen) return;
    const watch = new IntersectionObserver((entries) => entries.some((x) => x.isIntersecting) && setSeen(true), { rootMargin: ahead });
    watch.observe(e);
    return () => watch.disconnect();
  }, [element, seen]);
  return seen;
}
