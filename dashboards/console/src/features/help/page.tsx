import { Skeleton } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import type { MouseEvent } from "react";
import { help as m } from "@/i18n/help";
import { Page } from "@/parts/page";
import { Card } from "@/ui/Bits";
import { Empty, Failure } from "@/ui/Feedback";
import classes from "./help.module.css";
import { linked } from "./model";

const route = getRouteApi("/help/$");

const pages = import.meta.glob<string>(["../../../../../docs/*.md", "../../../../../docs/reference/*.md"], { query: "?guide", import: "default" });
const images = import.meta.glob<string>("../../../../../docs/images/*.png", { query: "?url", import: "default", eager: true });
const root = "../../../../../docs/";

type Name = keyof typeof m.names;
const names = Object.keys(m.names) as Name[];
/** For whoever wants to know how it is built and what it is worth, behind all else. */
const background: readonly Name[] = ["benchmarks", "accuracy", "alert-quality", "flaws", "architecture", "dependencies"];
const isReference = (n: Name) => n.startsWith("reference/");

/** The guides that came with this server, so that they are about this version and need no other site. */
export function HelpPage() {
  const { _splat: asked = "" } = route.useParams();
  const name = names.find((n) => n === (asked || "README"));
  const load = name === undefined ? undefined : pages[`${root}${name}.md`];
  const guide = useQuery({
    queryKey: ["guide", name],
    queryFn: async () => linked((await load?.()) ?? "", name ?? "", (file) => images[`${root}${file}`]),
    enabled: load !== undefined,
    staleTime: Infinity,
  });
  const navigate = useNavigate();
  const phone = useMediaQuery("(max-width: 48em)", undefined, { getInitialValueInEffect: false });
  const follow = (e: MouseEvent<HTMLDivElement>) => {
    const a = e.target instanceof HTMLElement ? e.target.closest("a") : null;
    const href = a?.getAttribute("href") ?? "";
    if (!href.startsWith("/help/") || e.ctrlKey || e.metaKey || e.shiftKey) return;
    e.preventDefault();
    const [path = "", hash] = href.slice("/help/".length).split("#");
    void navigate({ to: "/help/$", params: { _splat: path }, ...(hash === undefined ? {} : { hash }) });
  };
  const item = (n: Name) => (
    <li key={n}>
      <Link to="/help/$" params={{ _splat: n }} className={classes.item} {...(n === name ? { "data-active": true, "aria-current": "page" as const } : {})}>
        {m.names[n]}
      </Link>
    </li>
  );
  return (
    <Page title={name === undefined ? m.title : m.names[name]} sentence={m.language || undefined}>
      <div className={classes.columns}>
        <nav aria-label={m.guides} className={classes.list}>
          {/* On a phone the guide comes first: the list opens on demand, and closes with the choice of one. */}
          <details key={name} open={!phone}>
            <summary>{m.guides}</summary>
            <h2>{m.guides}</h2>
            <ul>{names.filter((n) => !isReference(n) && !background.includes(n)).map(item)}</ul>
            <h2>{m.reference}</h2>
            <ul>{names.filter(isReference).map(item)}</ul>
            <h2>{m.background}</h2>
            <ul>{background.map(item)}</ul>
          </details>
        </nav>
        <Card>
          {name === undefined ? (
            <Empty title={m.none}>{m.noneText}</Empty>
          ) : guide.error ? (
            <Failure what={m.what} error={guide.error} onRetry={() => void guide.refetch()} />
          ) : guide.data === undefined ? (
            <Skeleton height={400} />
          ) : (
            // Made from the project's own docs/ while it was built, without any HTML of theirs.
            <div className={classes.guide} lang="en" onClick={follow} dangerouslySetInnerHTML={{ __html: guide.data }} />
          )}
        </Card>
      </div>
    </Page>
  );
}
