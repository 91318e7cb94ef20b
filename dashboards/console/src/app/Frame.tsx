import { Menu, Tooltip, UnstyledButton, useMantineColorScheme } from "@mantine/core";
import { useComputedColorScheme } from "@mantine/core";
import {
  IconAlertTriangle,
  IconBell,
  IconChartLine,
  IconDots,
  IconFileText,
  IconHelp,
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
import { Link, Outlet, useLocation, useRouter } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense, useEffect, useSyncExternalStore } from "react";
import { frame as m } from "@/i18n/frame";
import { help } from "@/i18n/help";
import { dialogOpen, onDialogChange, openDialog } from "@/parts/dialogs";
import { onPinChange, pendingPin } from "@/parts/boards/pinStore";
import { useIncidents } from "@/parts/queries";
import { count } from "@/ui/format";
import classes from "./Frame.module.css";
import { pressed } from "./keys";

const Palette = lazy(() => import("./Palette"));
const Keys = lazy(() => import("./Keys"));
const PinDialog = lazy(() => import("@/parts/boards/PinDialog"));

const pages = [
  { to: "/", label: m.pages.overview, icon: IconLayoutDashboard, phone: true },
  { to: "/clusters", label: m.pages.clusters, icon: IconTopologyStar3, phone: true },
  { to: "/incidents", label: m.pages.incidents, icon: IconBell, phone: true },
  { to: "/logs", label: m.pages.logs, icon: IconFileText, phone: true },
  { to: "/events", label: m.pages.events, icon: IconListDetails, phone: false },
  { to: "/explore", label: m.pages.explore, icon: IconChartLine, phone: false },
  { to: "/boards", label: m.pages.boards, icon: IconLayoutBoard, phone: false },
  { to: "/policies", label: m.pages.policies, icon: IconShieldCheck, phone: false },
  { to: "/notifications", label: m.pages.notifications, icon: IconSend, phone: false },
  { to: "/settings", label: m.pages.settings, icon: IconSettings, phone: false },
] as const;

/** Menus and lists that are closed stay in the document, so that only those that are seen count. */
const somethingIsOpen = (): boolean =>
  [...document.querySelectorAll("[role=dialog], [role=menu], [role=listbox]")].some((e) => e.checkVisibility());

/** A letter belongs to the g before it for so long. */
const sequenceMillis = 1500;

/** The rail (a bar at the bottom on a phone), the page, and the palette over both. */
export function Frame() {
  const open = useSyncExternalStore(onDialogChange, dialogOpen);
  const pinning = useSyncExternalStore(onPinChange, pendingPin);
  const router = useRouter();
  useEffect(() => {
    let before: { key: string; at: number } | undefined;
    let closes = false;
    // Before anyone else hears of the key: a dialog that Esc closes may be gone when the key comes up here.
    const onFirst = (e: KeyboardEvent) => {
      closes = e.key === "Escape" && (dialogOpen() !== undefined || somethingIsOpen());
    };
    const onKey = (e: KeyboardEvent) => {
      if (e.defaultPrevented) return;
      const typing = e.target instanceof HTMLElement && e.target.closest("input, textarea, select, [contenteditable]") !== null;
      const after = before && e.timeStamp - before.at < sequenceMillis ? before.key : undefined;
      before = { key: e.key, at: e.timeStamp };
      const press = pressed(e, typing, after);
      // Esc goes back where nothing is open that it would close first; other keys belong to what is open.
      const busy = closes || dialogOpen() !== undefined || somethingIsOpen();
      if (!press || press.do === "wait" || (busy && press.do !== "palette")) return;
      if (press.do === "back") {
        globalThis.history.back();
        return;
      }
      e.preventDefault();
      if (press.do === "jump") void router.navigate({ to: press.to });
      else openDialog(press.do);
    };
    globalThis.addEventListener("keydown", onFirst, { capture: true });
    globalThis.addEventListener("keydown", onKey);
    return () => {
      globalThis.removeEventListener("keydown", onFirst, { capture: true });
      globalThis.removeEventListener("keydown", onKey);
    };
  }, [router]);

  return (
    <div className={classes.frame}>
      <a href="#page" className={classes.skip}>
        {m.skip}
      </a>
      <nav className={classes.rail} aria-label={m.nav}>
        <Link to="/" className={classes.brand} aria-label={m.home}>
          <img src="/favicon.svg" width={24} height={24} alt="" />
          <span className={classes.brandName}>{m.brand}</span>
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
          <Link to="/help/$" params={{ _splat: "README" }} className={classes.item} activeProps={{ "data-active": true, "aria-current": "page" }} activeOptions={{ includeSearch: false }}>
            <IconHelp size={19} stroke={1.6} aria-hidden />
            <span className={classes.itemLabel}>{help.title}</span>
          </Link>
          <SchemeButton />
        </div>
      </nav>
      <div className={classes.page} id="page">
        <Outlet />
      </div>
      {open === "palette" ? (
        <Suspense fallback={null}>
          <Palette />
        </Suspense>
      ) : null}
      {open === "keys" ? (
        <Suspense fallback={null}>
          <Keys />
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
    <span className={classes.badge} data-state={critical ? "critical" : "warning"} aria-label={m.active(n)}>
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
        <UnstyledButton className={classes.item} data-only-phone data-active={here || undefined} aria-label={m.morePages}>
          <IconDots size={19} stroke={1.6} aria-hidden />
          <span className={classes.itemLabel}>{m.more}</span>
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
          {next === "light" ? m.lightColours : m.darkColours}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function SchemeButton() {
  const { next, change } = useOtherScheme();
  return (
    <Tooltip label={m.switchTo[next]} position="right">
      <UnstyledButton className={classes.item} onClick={change} aria-label={m.switchTo[next]}>
        {next === "light" ? <IconSun size={19} stroke={1.6} /> : <IconMoon size={19} stroke={1.6} />}
        <span className={classes.itemLabel}>{next === "dark" ? m.dark : m.light}</span>
      </UnstyledButton>
    </Tooltip>
  );
}
