/** What fields show as examples: names and syntax, the same in every language. */
export const examples = {
  url: "https://…",
  contentType: "application/json",
  selector: "tier in (web,api)",
  logRules: { namespaces: "shop\n!kube-system", workloads: "deployment/cart\n!*/noisy", services: "shop/*", selector: "tier in (web,api)", annotations: "logs.crowsnest.dev/team=shop", mask: "card=\\d{4}" },
  multiline: { namespaces: "shop, !kube-*", workloads: "deployment/cart", containers: "app, !istio-*", selector: "tier in (web,api)", annotations: "logs.crowsnest.dev/team=shop", start: "^\\d{4}-\\d{2}-\\d{2} " },
  dimensions: "mountpoint=/var",
  matcher: 'namespace="shop"',
  logsql: 'level:error and "payment provider"',
  rrule: "FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0",
  /** An object by its policy's level. */
  object: { pod: "shop/cart-1", container: "shop/cart-1/app", workload: "shop/deployment/cart", node: "n-1", namespace: "shop", service: "shop/cart", volume: "shop/data", promql: "pod shop/cart-1" } as Readonly<Record<string, string>>,
};
