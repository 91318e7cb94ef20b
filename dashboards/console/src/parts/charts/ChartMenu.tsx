import { ActionIcon, Menu } from "@mantine/core";
import { IconCode, IconDots, IconFileSpreadsheet, IconLink, IconPhoto, IconPin, IconShieldPlus, IconTag, IconZoomQuestion } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import type { ReactNode, RefObject } from "react";
import type { Metric } from "@/api/types";
import type { BoardPanel } from "@/parts/boards/model";
import { pin } from "@/parts/boards/pinStore";
import { useRange } from "@/parts/page";
import { charts as m } from "@/i18n/charts";
import { useNow } from "@/ui/now";
import { resolveRange, toRFC3339 } from "@/ui/time";
import { type Caption, fileName, picture, save } from "./export";
import type { ObjectLabels } from "./model";

/** What a chart is made of. */
export interface Taken {
  /** Of the catalogue; none of an expression. */
  readonly metrics: readonly Metric[];
  /** In PromQL; none of what is counted in lines. */
  readonly queries: readonly string[];
  readonly object: ObjectLabels;
  /** The same chart as a panel of a board, where a board can have it. */
  readonly panel?: BoardPanel;
  /** Where else it can be looked at. */
  readonly elsewhere?: ReactNode;
}

interface Props {
  readonly title: string;
  readonly section: RefObject<HTMLElement | null>;
  readonly taken: Taken;
  readonly csv: () => string;
  /** What its picture says around the chart. */
  readonly caption: () => Caption;
}

/** What can be taken from a chart: its picture, values, query, link, and a policy on it. */
export function ChartMenu({ title, section, taken: { metrics, queries, object, panel, elsewhere }, csv, caption }: Props) {
  const range = useRange();
  const now = useNow();
  const [first] = metrics;
  const [query] = queries;
  const copy = (text: string) => void navigator.clipboard.writeText(text);
  const link = () => {
    // A link shows to others what is shown here, whenever they open it.
    const { start, end } = resolveRange(range, now);
    const url = new URL(globalThis.location.href);
    url.searchParams.set("from", toRFC3339(Math.floor(start)));
    url.searchParams.set("to", toRFC3339(Math.floor(end)));
    copy(url.toString());
  };
  const savePicture = () => {
    const canvas = section.current?.querySelector("canvas");
    if (!canvas || !section.current) return;
    picture(canvas, section.current, caption())?.toBlob((blob) => {
      if (blob) save(`${fileName(title)}.png`, "image/png", blob);
    });
  };
  return (
    <Menu shadow="md" position="bottom-start">
      <Menu.Target>
        <ActionIcon variant="subtle" size="sm" aria-label={m.menu.take(title)}>
          <IconDots size={14} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {query === undefined ? null : (
          <Menu.Item leftSection={<IconZoomQuestion size={14} />} renderRoot={(props) => <Link to="/explore" search={{ q: query }} {...props} />}>
            {m.menu.explore}
          </Menu.Item>
        )}
        {elsewhere}
        {first ? (
          <Menu.Item leftSection={<IconShieldPlus size={14} />} renderRoot={(props) => <Link to="/new/policy" search={{ ...object, metric: first.name }} {...props} />}>
            {m.menu.policy}
          </Menu.Item>
        ) : null}
        {panel === undefined ? null : (
          <Menu.Item leftSection={<IconPin size={14} />} onClick={() => pin(panel)}>
            {m.menu.pin}
          </Menu.Item>
        )}
        <Menu.Divider />
        {query === undefined ? null : (
          <Menu.Item leftSection={<IconCode size={14} />} onClick={() => copy(queries.join("\n"))}>
            {m.menu.promql}
          </Menu.Item>
        )}
        {first ? (
          <Menu.Item leftSection={<IconTag size={14} />} onClick={() => copy(metrics.map((x) => x.name).join("\n"))}>
            {m.menu.name}
          </Menu.Item>
        ) : null}
        <Menu.Item leftSection={<IconLink size={14} />} onClick={link}>
          {m.menu.link}
        </Menu.Item>
        <Menu.Item leftSection={<IconFileSpreadsheet size={14} />} onClick={() => save(`${fileName(title)}.csv`, "text/csv", csv())}>
          {m.menu.csv}
        </Menu.Item>
        <Menu.Item leftSection={<IconPhoto size={14} />} onClick={savePicture}>
          {m.menu.png}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
