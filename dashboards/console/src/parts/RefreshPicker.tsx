import { Menu, UnstyledButton } from "@mantine/core";
import { IconRefresh, IconRefreshOff } from "@tabler/icons-react";
import { useIsFetching, useQueryClient } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { frame as m } from "@/i18n/frame";
import { defaultRefresh, refreshes, type SharedSearch } from "./page";
import classes from "./pickers.module.css";
import { useSetSearch } from "./search";

export function RefreshPicker() {
  const { refresh = defaultRefresh } = useSearch({ strict: false });
  const set = useSetSearch<SharedSearch>();
  const queries = useQueryClient();
  const fetching = useIsFetching() > 0;
  const label = refreshes.find((r) => r.value === refresh)?.label ?? refresh;
  const Icon = refresh === "off" ? IconRefreshOff : IconRefresh;
  return (
    <div className={classes.pair}>
      <UnstyledButton
        className={classes.button}
        aria-label={m.refresh.now}
        onClick={() => void queries.invalidateQueries()}
        data-busy={fetching || undefined}
      >
        <Icon size={15} aria-hidden />
      </UnstyledButton>
      <Menu position="bottom-end" width={140}>
        <Menu.Target>
          <UnstyledButton className={`${classes.button} ${classes.wideOnly}`} aria-label={m.refresh.every(label)}>
            {label}
          </UnstyledButton>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label>{m.refresh.title}</Menu.Label>
          {refreshes.map((r) => (
            <Menu.Item
              key={r.value}
              data-selected={r.value === refresh || undefined}
              className={classes.item}
              onClick={() => set({ refresh: r.value === defaultRefresh ? undefined : r.value })}
            >
              {r.label}
            </Menu.Item>
          ))}
        </Menu.Dropdown>
      </Menu>
    </div>
  );
}
