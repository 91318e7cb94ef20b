import { type NavigateOptions, useRouter } from "@tanstack/react-router";
import type { MouseEvent } from "react";
import { type SharedSearch, sharedKeys } from "@/parts/page";
import { Middle } from "@/ui/Middle";

function shared(search: SharedSearch): string {
  const along = sharedKeys.flatMap((k) => (search[k] === undefined ? [] : [[k, search[k]]]));
  return along.length === 0 ? "" : `?${new URLSearchParams(along).toString()}`;
}

/**
 * A link of a table's row. A search draws a hundred of them anew with each key, so it does without what the router's own keep: whether
 * they are active, and their place in every change of the URL. A table is drawn anew with the time range, which goes along.
 */
export function RowLink({ path, to, name }: { path: string; to: NavigateOptions; name: string }) {
  const router = useRouter();
  const follow = (e: MouseEvent) => {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    void router.navigate(to);
  };
  // What draws the object is on its way before the click.
  const prepare = () => void router.preloadRoute(to).catch(() => undefined);
  return (
    <a href={path + shared(router.state.location.search)} onClick={follow} onMouseEnter={prepare} onFocus={prepare} onTouchStart={prepare}>
      <Middle text={name} />
    </a>
  );
}
