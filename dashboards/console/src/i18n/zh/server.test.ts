import { describe, expect, it } from "vitest";
import api from "../../../../../api/openapi.json?raw";
import presets from "../../../../../alerting/preset/presets.yaml?raw";
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
  expect(zh.problem("not_found", 'policy "x": not found')).toBe('未找到：“policy "x": not found”');
  expect(zh.problem("invalid", "policy: a: is required; b: is required", ["a: 必填", "b: 必填"])).toBe("输入无效：a: 必填；b: 必填");
  expect(zh.problem("teapot", "short and stout")).toBe("short and stout");
});

describe("why something is refused", () => {
  const names = (sentence: string) => [...sentence.matchAll(/\{\w+\}/g)].map((found) => found[0]).sort();
  const wrong = (JSON.parse(api) as { components: { schemas: { Wrong: { properties: { reason: { enum: string[]; "x-sentences": Record<string, string> } } } } } }).components.schemas.Wrong.properties.reason;

  it("has each sentence that the server knows", () => expect(wrong.enum.length).toBeGreaterThan(100));
  it.each(wrong.enum)("%s", (reason) => {
    const english = wrong["x-sentences"][reason] ?? "";
    const chinese = zh.refusal(reason, {}, "");
    expect(english).not.toBe("");
    expect(chinese).toMatch(/[\u4e00-\u9fff]/);
    expect(names(chinese)).toEqual(names(english));
  });

  it("names what it is about", () => {
    expect(zh.refusal("exists", { kind: "Board", name: "target" }, "")).toBe('看板 "target" 已存在');
    expect(zh.refusal("required_for", { what: "type slack" }, "")).toBe("slack 类型时必填");
  });
  it("stays as it was said where there is no such sentence", () => expect(zh.refusal("teapot", {}, "short and stout")).toBe("short and stout"));
});

describe("what alerts and policies say", () => {
  const of = (key: string) => [...presets.matchAll(new RegExp(`^${key}: (.+)$`, "gm"))].map((found) => (found[1] ?? "").replace(/^"(.*)"$/, "$1"));
  it.each([["titles", of("title")], ["symptoms", of("symptom")]])("has the presets' %s in Chinese", (_, english) => {
    expect(english.length).toBeGreaterThan(30);
    expect(english.filter((e) => !/[\u4e00-\u9fff]/.test(zh.alert(e)))).toEqual([]);
  });

  it.each([
    ["node worker-03: CPU used above 90 %", "节点 worker-03：CPU 使用量高于 90 %"],
    ["legacy-sync in platform: Replicas missing above 0", "platform 的 legacy-sync：缺少副本高于 0"],
    ["train-embeddings in ml: not ready", "ml 的 train-embeddings：未就绪"],
    ["service legacy-sync in platform: Service without ready pods", "platform 的服务 legacy-sync：Service 没有就绪的 Pod"],
    ["cluster a: CPU requested will be above 90 % in 4h", "集群 a：CPU 请求量将在 4h 内高于 90 %"],
    ["avg over 1m was 94.91, 96.22 % in the last 2 periods; warning above 90 %", "最近 2 个周期，1m 的平均值为 94.91, 96.22 %；高于 90 % 为警告"],
    ["the expression was 1 in the last period; warning while it has a result", "最近 1 个周期，表达式的值为 1；有结果即为警告"],
    ["min over 1m was 1 in the last period; warning above 0; and max over 1m was 2 in the last period; warning equal to 2", "最近 1 个周期，1m 的最小值为 1；高于 0 为警告；最近 1 个周期，1m 的最大值为 2；等于 2 为警告"],
    ["At 2026-11-28T12:00:00Z avg over 1m was 3 % in the last period; warning needs 5 of 5 above 90 %, and 0 are. So it was ok and stayed so.", "2026-11-28T12:00:00Z；最近 1 个周期，1m 的平均值为 3 %；警告需要 5 个中有 5 个高于 90 %，现有 0 个；原本正常，仍然正常"],
    ["the value is normal again: avg over 1m was 3 % in the last 2 periods", "值恢复正常：最近 2 个周期，1m 的平均值为 3 %"],
    ["selects nothing that has values", "选中的对象都没有值"],
    ["not evaluated on simulated: metric k8s_node_clock_offset is not available there: only a collector on the node shows the node's clock", "未在 simulated 上评估：那里没有指标 k8s_node_clock_offset：只有节点上的采集器才能看到节点时钟"],
  ])("%s", (english, chinese) => expect(zh.alert(english)).toBe(chinese));

  it("stays as it was said where a part of it is not known", () => expect(zh.alert("queue of my own: Depth of it, somehow")).toBe("queue of my own: Depth of it, somehow"));
});
