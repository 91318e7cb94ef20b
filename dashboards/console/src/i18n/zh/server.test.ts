import { describe, expect, it } from "vitest";
import reference from "../../../../../docs/reference/metrics.md?raw";
import { zh } from "./server";

describe("a cluster's sentence", () => {
  it.each([
    ["All 40 workloads are healthy", "全部 40 个工作负载正常"],
    ["Its one workload is healthy; 1 incident is open", "唯一的工作负载正常；1 个故障进行中"],
    ["2 of 40 workloads are unhealthy; cart has been restarting for 12 min", "40 个工作负载中 2 个异常；cart 已 12 分钟不断重启"],
    ["Node n-1 is not ready; 1 of 1 workload is unhealthy; cart is at 1 of 3 replicas", "节点 n-1 未就绪；1 个工作负载中 1 个异常；cart 就绪副本 1/3"],
    ["3 of 40 nodes are not ready; 1 of 40 workloads is unhealthy; nightly failed 2 days ago", "40 个节点中 3 个未就绪；40 个工作负载中 1 个异常；nightly 于 2 天前失败"],
    ["No data for 12 min; as last seen, all 3 workloads are healthy; 1 of 4 sources cannot be read", "已 12 分钟没有数据，以下为最后所见；全部 3 个工作负载正常；4 个数据源中 1 个无法读取"],
    ["Waiting for the first data", "等待第一批数据"],
  ])("%s", (english, chinese) => expect(zh.sentence(english)).toBe(chinese));

  it("stays whole where a part of it is not known", () => expect(zh.sentence("All 3 workloads are healthy; the moon is full tonight, they say")).toBe("All 3 workloads are healthy; the moon is full tonight, they say"));
});

it("leaves what it does not know as it was said", () => {
  expect(zh.title("Queue depth of my own")).toBe("Queue depth of my own");
  expect(zh.title("CPU of limit")).toBe("CPU 占限额");
});

describe("the catalogue, as its reference has it", () => {
  const all = (pattern: RegExp) => [...new Set([...reference.matchAll(pattern)].map((found) => found[1] ?? ""))];
  it.each([
    ["titles", zh.title, all(/^\*\*(.+?)\*\*, /gm)],
    ["what they are", zh.help, all(/^\*\*.+?\*\*, [^ ]+\. (.+)$/gm)],
    ["why a metric is absent", zh.why, all(/^- No series when: (.+)\.$/gm)],
    ["why a kind of cluster lacks it", zh.why, all(/^- Not (?:on|from) [^:]+: (.+)\.$/gm)],
  ])("has %s in Chinese", (_, words, english) => {
    expect(english.length).toBeGreaterThan(3);
    expect(english.filter((e) => words(e) === e)).toEqual([]);
  });
});

it("says of an error which kind it is, and leaves the rest as it was said", () => {
  expect(zh.problem("not_found", 'policy "x": not found')).toBe('未找到：policy "x": not found');
  expect(zh.problem("teapot", "short and stout")).toBe("short and stout");
});
