import type { clusters } from "../clusters";
import { digits } from "../language";

export const zh: typeof clusters = {
  label: "集群",
  noMatch: "没有匹配的集群。",
  columns: { state: "状态", cluster: "集群", sentence: "概况", kind: "类型", version: "版本", nodes: "节点", unhealthy: "异常", cpu: "CPU", memory: "内存", seen: "最近数据" },
  ready: "就绪",
  add: {
    title: "添加集群",
    text: "为它命名，并在 kubectl 可用的地方运行此命令。它读取 kubeconfig 所指的集群，不做任何改动，并把数据发送到这里。",
    id: "集群标识",
    idRule: "a-z、0-9 和连字符，最多 63 个字符",
    idText: "它在所有 URL 和标签中代表该集群，且永不改变。",
    token: (cluster) => `${cluster} 的采集器`,
    make: "生成命令",
    inside: (simulate) => <>要在集群内运行采集器，见 deploy/manifests。想先看看，可用 {simulate} 展示模拟的集群。</>,
    there: (cluster, nodes, workloads, pods) => (
      <>
        {cluster} 已接入：{digits(nodes)} 个节点，{digits(workloads)} 个工作负载，{digits(pods)} 个 Pod。
      </>
    ),
    connected: (cluster) => `${cluster} 已连接；等待它的第一批对象。`,
    waiting: (cluster) => `等待 ${cluster} 的第一批数据。`,
    once: "令牌只显示这一次。",
  },
};
