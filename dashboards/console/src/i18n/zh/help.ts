import type { help } from "../help";

export const zh: typeof help = {
  title: "帮助",
  guides: "指南",
  reference: "参考",
  names: {
    README: "概览",
    "quick-start": "快速开始",
    concepts: "概念",
    policies: "策略",
    webhooks: "通知",
    rules: "Prometheus 规则",
    operations: "运维",
    troubleshooting: "故障排查",
    "kube-prometheus-stack": "迁移",
    "reference/metrics": "指标",
    "reference/presets": "预置策略",
    "reference/api": "接口",
    "reference/configuration": "命令与设置",
    "reference/collector": "采集器设置",
  },
  language: "指南正文为英文。",
  none: "没有这份指南",
  noneText: "全部列在旁边。",
  what: "指南",
};
