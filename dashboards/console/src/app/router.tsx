import { QueryCache, QueryClient } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Link, redirect, retainSearchParams } from "@tanstack/react-router";
import { againUntilThere } from "@/api/again";
import { RequestError } from "@/api/problem";
import { OverviewPage } from "@/features/overview/page";
import { frame as m } from "@/i18n/frame";
import { home } from "@/parts/home";
import { Page, sharedKeys, sharedSearch, text } from "@/parts/page";
import { Empty, Failure } from "@/ui/Feedback";
import { Frame } from "./Frame";

/** Whether asking again changes nothing: the question was wrong, not the moment. */
const refused = (error: Error | null) => error instanceof RequestError && error.status >= 400 && error.status < 500;

export const queryClient: QueryClient = new QueryClient({
  // What was asked of a server that could not answer is asked until it can, however seldom the page refreshes.
  queryCache: new QueryCache({ onError: againUntilThere(refused) }),
  defaultOptions: {
    queries: {
      staleTime: 5000,
      // A second try for what may pass; the refresh comes again soon anyway.
      retry: (failures, error) => failures < 1 && !refused(error),
      // The browser's own word on being online says nothing about a server on the same machine.
      networkMode: "always",
    },
  },
});

let opening = globalThis.location.pathname === "/" && globalThis.location.search === "";

const root = createRootRoute({
  component: Frame,
  validateSearch: sharedSearch,
  // The time range goes along from page to page.
  search: { middlewares: [retainSearchParams([...sharedKeys])] },
  notFoundComponent: () => (
    <Page title={m.notFound}>
      <Empty title={m.noPage} action={<Link to="/">{m.toOverview}</Link>} />
    </Page>
  ),
  errorComponent: ({ error, reset }) => (
    <Page title={m.broke}>
      <Failure what={m.thePage} error={error instanceof Error ? error : new Error(String(error))} onRetry={reset} />
    </Page>
  ),
});

const tableSearch = (raw: Record<string, unknown>) => ({
  ...text(raw, "sort"),
  ...text(raw, "filter"),
  ...text(raw, "tab"),
});
const objectSearch = (raw: Record<string, unknown>) => ({
  ...tableSearch(raw),
  ...text(raw, "q"),
  ...text(raw, "form"),
  ...text(raw, "wrap"),
  ...text(raw, "live"),
});

/** What narrows a page to a part of a cluster. */
const placeSearch = (raw: Record<string, unknown>) => ({
  ...text(raw, "cluster"),
  ...text(raw, "namespace"),
  ...text(raw, "workload_type"),
  ...text(raw, "workload"),
  ...text(raw, "pod"),
  ...text(raw, "container"),
  ...text(raw, "node"),
});

const routes = [
  createRoute({
    getParentRoute: () => root,
    path: "/",
    validateSearch: (raw) => text(raw, "sort"),
    // Whoever opens the console comes to their home; the overview is reached from there as from everywhere.
    beforeLoad: () => {
      const to = opening ? home() : undefined;
      opening = false;
      if (to !== undefined) throw redirect({ href: to, replace: true });
    },
    component: OverviewPage,
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters",
    validateSearch: (raw) => text(raw, "sort"),
    component: lazyRouteComponent(() => import("@/features/cluster/list"), "ClustersPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/cluster/page"), "ClusterPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster/nodes/$node",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/node/page"), "NodePage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster/namespaces/$ns/workloads/$type/$name",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/workload/page"), "WorkloadPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster/namespaces/$ns/pods/$pod",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/pod/page"), "PodPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster/namespaces/$ns",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/namespace/page"), "NamespacePage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster/namespaces/$ns/services/$service",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/service/page"), "ServicePage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/clusters/$cluster/namespaces/$ns/pods/$pod/containers/$container",
    validateSearch: objectSearch,
    component: lazyRouteComponent(() => import("@/features/container/page"), "ContainerPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/incidents",
    validateSearch: (raw) => ({ ...text(raw, "sort"), ...text(raw, "state"), ...text(raw, "filter"), ...text(raw, "severity"), ...text(raw, "cluster"), ...text(raw, "policy"), ...text(raw, "view"), ...text(raw, "days") }),
    component: lazyRouteComponent(() => import("@/features/incidents/page"), "IncidentsPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/incidents/$id",
    component: lazyRouteComponent(() => import("@/features/incidents/detail"), "IncidentPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/help/$",
    component: lazyRouteComponent(() => import("@/features/help/page"), "HelpPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/act/$ticket",
    component: lazyRouteComponent(() => import("@/features/act/page"), "ActPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/policies",
    validateSearch: tableSearch,
    component: lazyRouteComponent(() => import("@/features/policies/page"), "PoliciesPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/policies/$name",
    validateSearch: (raw) => ({ ...text(raw, "object"), ...text(raw, "cluster"), ...text(raw, "dimensions"), ...text(raw, "at") }),
    component: lazyRouteComponent(() => import("@/features/policies/detail"), "PolicyPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/policies/$name/edit",
    validateSearch: (raw) => text(raw, "copy"),
    component: lazyRouteComponent(() => import("@/features/policies/edit"), "EditPolicyPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/new/policy",
    validateSearch: (raw) => ({ ...text(raw, "metric"), ...text(raw, "level"), ...text(raw, "query"), ...placeSearch(raw) }),
    component: lazyRouteComponent(() => import("@/features/policies/edit"), "NewPolicyPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/logs",
    validateSearch: (raw) => ({
      ...text(raw, "q"),
      ...text(raw, "form"),
      ...text(raw, "wrap"),
      ...text(raw, "live"),
      ...placeSearch(raw),
    }),
    component: lazyRouteComponent(() => import("@/features/logs/page"), "LogsPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/explore",
    validateSearch: (raw) => ({ ...text(raw, "q"), ...text(raw, "q2"), ...text(raw, "q3"), ...text(raw, "q4"), ...text(raw, "q5"), ...text(raw, "view"), ...text(raw, "sort") }),
    component: lazyRouteComponent(() => import("@/features/explore/page"), "ExplorePage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/boards",
    validateSearch: (raw) => text(raw, "sort"),
    component: lazyRouteComponent(() => import("@/features/boards/page"), "BoardsPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/boards/$name",
    validateSearch: (raw) => text(raw, "edit"),
    component: lazyRouteComponent(() => import("@/features/boards/detail"), "BoardPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/notifications",
    validateSearch: (raw) => ({ ...tableSearch(raw), ...text(raw, "state") }),
    component: lazyRouteComponent(() => import("@/features/notifications/page"), "NotificationsPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/settings",
    validateSearch: (raw) => text(raw, "sort"),
    component: lazyRouteComponent(() => import("@/features/settings/page"), "SettingsPage"),
  }),
  createRoute({
    getParentRoute: () => root,
    path: "/events",
    validateSearch: (raw) => ({ ...text(raw, "q"), ...text(raw, "form"), ...text(raw, "cluster"), ...text(raw, "namespace") }),
    component: lazyRouteComponent(() => import("@/features/events/page"), "EventsPage"),
  }),
] as const;

// Every parameter is text and stands in the URL as it is: people read and write these URLs.
const parseSearch = (search: string): Record<string, string> => Object.fromEntries(new URLSearchParams(search));
const stringifySearch = (search: Record<string, unknown>): string => {
  const params = new URLSearchParams();
  for (const [k, v] of Object.entries(search)) if (typeof v === "string" && v !== "") params.set(k, v);
  const s = params.toString();
  return s === "" ? "" : `?${s}`;
};

export const router = createRouter({
  routeTree: root.addChildren(routes),
  parseSearch,
  stringifySearch,
  defaultPreload: "intent",
  defaultPreloadStaleTime: 0,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
