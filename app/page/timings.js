/** Time, drawn: the stages of one answer, and the answers of this browser. */

import { element, svgElement } from "./view.js";

const WINDOW = 100; // answers
const MODELS = ["speller", "embedder"]; // run side by side; the index follows
const STAGES = [...MODELS, "index"];
const CLIP = 3; // bars are cut at this many p90s, so that one hiccup does not flatten the rest
const SPARK = { width: 100, height: 28, bar: 0.7 }; // units of the SVG's viewBox

export function formatMs(ms) {
  return `${ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

/**
 * Where each stage lies on the answer's time line. The gateway reports lengths, not starts: the index is drawn after the
 * models when that fits into the total, and from zero (plain bars) when it does not.
 * @param {Object<string, number>} timingsMs
 * @returns {{name: string, startMs: number, ms: number}[]} the stages that ran
 */
export function stageSpans(timingsMs) {
  const modelsEndMs = Math.max(0, ...MODELS.map((name) => timingsMs[name] ?? 0));
  const roundingMs = 0.5;
  const inSequence = modelsEndMs + (timingsMs.index ?? 0) <= (timingsMs.total ?? 0) + roundingMs;
  return STAGES.filter((name) => Number.isFinite(timingsMs[name])).map((name) => ({
    name,
    startMs: name === "index" && inSequence ? modelsEndMs : 0,
    ms: timingsMs[name],
  }));
}

/** Fills a description list with one bar a stage. */
export function drawStages(list, timingsMs) {
  const spans = stageSpans(timingsMs);
  const endMs = Math.max(timingsMs.total ?? 0, ...spans.map((span) => span.startMs + span.ms)) || 1;
  list.replaceChildren(
    ...spans.map(({ name, startMs, ms }) => {
      const bar = element("span", { class: "bar-fill" });
      bar.style.setProperty("margin-inline-start", `${(100 * startMs) / endMs}%`);
      bar.style.setProperty("inline-size", `${(100 * ms) / endMs}%`);
      return element("div", { class: `stage stage-${name}` }, [
        element("dt", {}, [name]),
        element("dd", {}, [element("span", { class: "bar-track" }, [bar]), element("span", { class: "figure" }, [formatMs(ms)])]),
      ]);
    }),
  );
}

/** The last answers' latencies [ms] as this browser saw them, the network included. */
export class LatencyWindow {
  #latenciesMs = [];
  overtaken = 0;

  record(elapsedMs) {
    this.#latenciesMs.push(elapsedMs);
    if (this.#latenciesMs.length > WINDOW) this.#latenciesMs.shift();
  }

  get latenciesMs() {
    return [...this.#latenciesMs];
  }

  /** Nearest-rank quantile [ms] of a non-empty window, 0 < q <= 1. */
  quantileMs(q) {
    const sorted = this.latenciesMs.sort((a, b) => a - b);
    return sorted[Math.ceil(q * sorted.length) - 1];
  }
}

/** Draws one bar an answer, the newest at the right, and the p90 as a line; bars above it are marked. */
export function drawSparkline(svg, latency) {
  const p90 = latency.quantileMs(0.9);
  const latenciesMs = latency.latenciesMs;
  const topMs = Math.min(Math.max(...latenciesMs), CLIP * p90);
  const step = SPARK.width / WINDOW;
  const y = (ms) => SPARK.height * (1 - Math.min(ms / topMs, 1));
  const bars = latenciesMs.map((ms, i) =>
    svgElement("rect", {
      class: ms > p90 ? "spark slow" : "spark",
      x: SPARK.width - (latenciesMs.length - i) * step,
      y: Math.min(y(ms), SPARK.height - 1),
      width: step * SPARK.bar,
      height: Math.max(SPARK.height - y(ms), 1),
    }),
  );
  const line = svgElement("line", { class: "spark-p90", x1: 0, x2: SPARK.width, y1: y(p90), y2: y(p90) });
  svg.replaceChildren(...bars, line);
}
