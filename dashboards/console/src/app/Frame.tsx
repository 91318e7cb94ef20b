import { Menu, Tooltip, UnstyledButton, useMantineColorScheme } from "@mantine/core";
import { useComputedColorScheme } from "@mantine/core";
import {
  IconAlertTriangle,
  IconBell,
  IconChartLine,
  IconDots,
  IconFileText,
  IconLayoutBoard,
  IconLayoutDashboard,
  IconListDetails,
  IconMoon,
  IconSend,
  IconSettings,
  IconShieldCheck,
  IconSun,
  IconTopologyStar3,
} from "@tabler/icons-react";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense, useEffect, useSyncExternalStore } from "react";
import { onPaletteChange, openPalette, paletteIsOpen } from "@/parts/paletteStore";
import { onPinChange, pendingPin } from "@/parts/boards/pinStore";
import { useIncidents } from "@/parts/queries";
import { count } from "@/ui/format";
import classes from "./Frame.module.css";

const Palette = lazy(() => import("./Palette"));
const PinDialog = lazy(() => import("@/parts/boards/PinDialog"));

const pages = [
  { to: "/", label: "Overview", icon: IconLayoutDashboard, phone: true },
  { to: "/clusters", label: "Clusters", icon: IconTopologyStar3, phone: true },
  { to: "/incidents", label: "Incidents", icon: IconBell, phone: true },
  { to: "/logs", label: "Logs", icon: IconFileText, phone: true },
  { to: "/events", label: "Events", icon: IconListDetails, phone: false },
  { to: "/explore", label: "Explore", icon: IconChartLine, phone: false },
  { to: "/boards", label: "Boards", icon: IconLayoutBoard, phone: false },
  { to: "/policies", label: "Policies", icon: IconShieldCheck, phone: false },
  { to: "/notifications", label: "Notifications", icon: IconSend, phone: false },
  { to: "/settings", label: "Settings", icon: IconSettings, phone: false },
] as const;

/** Menus and lists that are closed stay in the document, so that only those that are seen count. */
const somethingIsOpen = (): boolean =>
  [...document.querySelectorAll("[role=dialog], [role=menu], [role=listbox]")].some((e) => e.checkVisibility());

/** The rail (a bar at the bottom on a phone), the page, and the palette over both. */
export function Frame() {
  const open = useSyncExternalStore(onPaletteChange, paletteIsOpen);
  const pinning = useSyncExternalStore(onPinChange, pendingPin);
  useEffect(() => {
    const onKey = (e: KeyboardEvent) => {
      const typing = e.target instanceof HTMLElement && e.target.closest("input, textarea, select, [contenteditable]") !== null;
      const findKey = e.key.toLowerCase() === "k" && (e.ctrlKey || e.metaKey);
      if (!findKey && !(e.key === "/" && !typing)) {
        // Esc goes back where nothing is open that it would close first.
        if (e.key === "Escape" && !e.defaultPrevented && !typing && !paletteIsOpen() && !somethingIsOpen())
          globalThis.history.back();
        return;
      }
      e.preventDefault();
      openPalette();
    };
    globalThis.addEventListener("keydown", onKey);
    return () => globalThis.removeEventListener("keydown", onKey);
  }, []);

  return (
    <div className={classes.frame}>
      <a href="#page" className={classes.skip}>
        Skip to the page
      </a>
      <nav className={classes.rail} aria-label="pages">
        <Link to="/" className={classes.brand} aria-label="Crowsnest, overview">
          <img src="/favicon.svg" width={24} height={24} alt="" />
          <span className={classes.brandName}>Crowsnest</span>
        </Link>
        {pages.map(({ to, label, icon: Icon, phone }) => (
          <Link
            key={to}
            to={to}
            className={classes.item}
            activeProps={{ "data-active": true, "aria-current": "page" }}
            activeOptions={{ exact: to === "/", includeSearch: false }}
            data-phone={phone}
          >
            <Icon size={19} stroke={1.6} aria-hidden />
            <span className={classes.itemLabel}>{label}</span>
            {to === "/incidents" ? <ActiveIncidents /> : null}
          </Link>
        ))}
        <More />
        <div className={classes.bottom}>
          <SchemeButton />
        </div>
      </nav>
      <div className={classes.page} id="page">
        <Outlet />
      </div>
      {open ? (
        <Suspense fallback={null}>
          <Palette />
        </Suspense>
      ) : null}
      {pinning ? (
        <Suspense fallback={null}>
          <PinDialog panel={pinning} />
        </Suspense>
      ) : null}
    </div>
  );
}

function ActiveIncidents(): ReactNode {
  const incidents = useIncidents("active");
  const n = incidents.data?.length ?? 0;
  if (n === 0) return null;
  const critical = incidents.data?.some((i) => i.severity === "critical");
  return (
    <span className={classes.badge} data-state={critical ? "critical" : "warning"} aria-label={`${n} active`}>
      <IconAlertTriangle size={11} aria-hidden />
      {count(n)}
    </span>
  );
}

function useOtherScheme(): { next: "light" | "dark"; change: () => void } {
  const { setColorScheme } = useMantineColorScheme();
  const next = useComputedColorScheme("light") === "dark" ? "light" : "dark";
  return { next, change: () => setColorScheme(next) };
}

/** What the bar of a phone has no room for. */
function More() {
  const { pathname } = useLocation();
  const { next, change } = useOtherScheme();
  const rest = pages.filter((p) => !p.phone);
  const here = rest.some((p) => pathname.startsWith(p.to));
  return (
    <Menu position="top-end" width={200} shadow="md">
      <Menu.Target>
        <UnstyledButton className={classes.item} data-only-phone data-active={here || undefined} aria-label="more pages">
          <IconDots size={19} stroke={1.6} aria-hidden />
          <span className={classes.itemLabel}>More</span>
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        {rest.map(({ to, label, icon: Icon }) => (
          <Menu.Item key={to} component={Link} to={to} leftSection={<Icon size={18} stroke={1.6} />}>
            {label}
          </Menu.Item>
        ))}
        <Menu.Divider />
        <Menu.Item leftSection={next === "light" ? <IconSun size={18} stroke={1.6} /> : <IconMoon size={18} stroke={1.6} />} onClick={change}>
          {next === "light" ? "Light colours" : "Dark colours"}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function SchemeButton() {
  const { next, change } = useOtherScheme();
  return (
    <Tooltip label={`switch to ${next}`} position="right">
      <UnstyledButton className={classes.item} onClick={change} aria-label={`switch to ${next}`}>
        {next === "light" ? <IconSun size={19} stroke={1.6} /> : <IconMoon size={19} stroke={1.6} />}
        <span className={classes.itemLabel}>{next === "dark" ? "Dark" : "Light"}</span>
      </UnstyledButton>
    </Tooltip>
  );
}
