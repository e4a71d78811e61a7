// Draws outlines over the crops, moves the sliders, and changes the snapshot.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  function html(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // "x,y,5780...": a first pixel, and a digit 3 (dy + 1) + dx + 1 for each step to the next.
  function path(chain) {
    const [x, y, steps] = chain.split(",");
    let d = `M${+x + 0.5} ${+y + 0.5}`;
    for (const digit of steps) d += `l${(digit % 3) - 1} ${Math.floor(digit / 3) - 1}`;
    return d + "z";
  }

  // Fates: k kept, r reshaped, s split, m merged, a alone. Changed cells lie over the others.
  function draw(layer, chains, fates) {
    layer.replaceChildren();
    for (const fate of "krsma") {
      const d = chains.filter((chain, cell) => chain && fates[cell] === fate).map(path).join("");
      if (d) layer.append(svg("path", { d, class: `casing ${fate}` }), svg("path", { d, class: `line ${fate}` }));
    }
  }

  const figures = data.crops.map((crop, index) => {
    const box = `0 0 ${crop.side} ${crop.side}`;
    const side = (name, tag) => {
      const layer = svg("svg", { viewBox: box, "aria-hidden": "true" });
      const image = html("img", { src: crop.picture, alt: `${crop.name}, ${tag}` });
      return [layer, html("div", { class: `side ${name}` }, image, layer, html("span", { class: "tag" }, tag))];
    };
    const [before, left] = side("before", "your model");
    const [after, right] = side("after", "snapshot");
    const slider = html("input", {
      type: "range", min: 0, max: 100, value: 50,
      "aria-label": `${crop.name}: how much of it shows your model, the rest shows the snapshot`,
    });
    const compare = html("div", { class: "compare" }, left, right, html("div", { class: "divider" }), slider);
    const move = () => compare.style.setProperty("--at", `${slider.value}%`);
    slider.addEventListener("input", move);
    const caption = html("figcaption");
    byId("crops").append(html("figure", { class: "crop", "data-crop": index }, compare, caption));
    return { before, after, caption, tag: right.querySelector(".tag") };
  });

  function changes(counts) {
    const told = [];
    for (const what of ["gained", "lost", "split", "merged", "reshaped"]) {
      if (counts[what]) told.push(`${counts[what]} ${what}`);
    }
    return told.length ? told.join(", ") : "nothing changed";
  }

  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.floor(sorted.length / 2)].toFixed(1) : "–";
  };
  const diameters = (snapshot) => snapshot.crops.flatMap((crop) => crop.diameters);
  const largest = Math.max(8, ...data.snapshots.flatMap(diameters));

  function histogram(snapshot) {
    const bins = 16;
    const width = largest / bins;
    const count = (values) => {
      const heights = new Array(bins).fill(0);
      for (const value of values) heights[Math.min(bins - 1, Math.floor(value / width))] += 1;
      return heights;
    };
    const [was, is] = [diameters(data.snapshots[0]), diameters(snapshot)];
    const [before, after] = [count(was), count(is)];
    const top = Math.max(1, ...data.snapshots.flatMap((one) => count(diameters(one))));
    const chart = svg("svg", { viewBox: "0 0 560 230", role: "img" });
    const told = `Diameters of ${was.length} cells of your model and ${is.length} of the snapshot`;
    chart.append(svg("title", {}, told));
    const x = (bin) => 40 + (bin * 510) / bins;
    const y = (height) => 185 - (height * 150) / top;
    for (const height of new Set([0, Math.round(top / 2), top])) {
      chart.append(svg("line", { x1: 40, x2: 550, y1: y(height), y2: y(height) }));
      chart.append(svg("text", { x: 34, y: y(height) + 4, "text-anchor": "end" }, `${height}`));
    }
    for (let bin = 0; bin < bins; bin += 1) {
      const bar = (heights, shift, name) => svg("rect", {
        x: x(bin) + shift, width: 13, y: y(heights[bin]), height: 185 - y(heights[bin]), class: name,
      });
      if (before[bin]) chart.append(bar(before, 3, "b"));
      if (after[bin]) chart.append(bar(after, 16, "a"));
    }
    for (let bin = 0; bin <= bins; bin += 4) {
      chart.append(svg("text", { x: x(bin), y: 202, "text-anchor": "middle" }, (bin * width).toFixed(0)));
    }
    chart.append(svg("text", { x: 295, y: 222, "text-anchor": "middle" }, "diameter in image pixels"));
    chart.append(svg("rect", { x: 40, y: 8, width: 12, height: 12, class: "b" }));
    chart.append(svg("text", { x: 58, y: 18 }, `your model: ${plural(was.length, "cell")}, median ${median(was)}`));
    chart.append(svg("rect", { x: 300, y: 8, width: 12, height: 12, class: "a" }));
    chart.append(svg("text", { x: 318, y: 18 }, `step ${snapshot.step}: ${plural(is.length, "cell")}, median ${median(is)}`));
    byId("histogram").replaceChildren(chart);
  }

  function table(snapshot) {
    const columns = ["before", "after", "kept", "gained", "lost", "split", "merged", "reshaped"];
    const head = ["image", "your model", "snapshot", "in both", "gained", "lost", "split", "merged", "reshaped"];
    const row = (name, counts) => html("tr", {},
      html("th", { scope: "row" }, name), ...columns.map((column) => html("td", {}, `${counts[column]}`)));
    byId("counts").replaceChildren(
      html("thead", {}, html("tr", {}, ...head.map((name) => html("th", { scope: "col" }, name)))),
      html("tbody", {}, ...snapshot.crops.map((crop, index) => row(data.crops[index].name, crop.counts))),
      html("tfoot", {}, row("together", snapshot.total)),
    );
  }

  const control = byId("snapshot");
  control.max = data.snapshots.length - 1;

  function show(index) {
    const snapshot = data.snapshots[index];
    const { step } = snapshot;
    control.value = index;
    const names = [];
    if (step === 0) names.push("your model");
    if (step === data.delivered) names.push("delivered");
    const name = `step ${step}` + (names.length ? ` (${names.join(", ")})` : "");
    control.setAttribute("aria-valuetext", name);
    byId("step").textContent = name;
    byId("told").textContent =
      `${plural(snapshot.total.after, "cell")}; against your model's ${snapshot.total.before}: ${changes(snapshot.total)}`;
    byId("command").textContent = `selfadapt pick ${data.run} --step ${step}`;
    byId("copy").textContent = "Copy";
    byId("earlier").disabled = index === 0;
    byId("later").disabled = index === data.snapshots.length - 1;
    figures.forEach((figure, at) => {
      const crop = snapshot.crops[at];
      draw(figure.before, data.before[at], crop.before);
      draw(figure.after, crop.outlines, crop.after);
      figure.tag.textContent = `step ${step}`;
      figure.caption.replaceChildren(
        html("b", {}, data.crops[at].name), `: ${crop.counts.before} → ${crop.counts.after}; ${changes(crop.counts)}`);
    });
    for (const chart of document.querySelectorAll(".chart")) {
      const at = Number(chart.dataset.left) + step * Number(chart.dataset.perStep);
      const line = chart.querySelector(".here");
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
    }
    histogram(snapshot);
    table(snapshot);
  }

  control.addEventListener("input", () => show(Number(control.value)));
  byId("earlier").addEventListener("click", () => show(Number(control.value) - 1));
  byId("later").addEventListener("click", () => show(Number(control.value) + 1));
  byId("outlines").addEventListener("change", (event) => {
    byId("crops").classList.toggle("bare", !event.target.checked);
  });
  byId("changed").addEventListener("change", (event) => {
    byId("crops").classList.toggle("only-changed", event.target.checked);
  });
  byId("copy").addEventListener("click", async () => {
    const command = byId("command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      byId("copy").textContent = "Copied";
    } catch {
      // A page opened from a file may not reach the clipboard: select the text for Ctrl-C.
      getSelection().selectAllChildren(command);
      byId("copy").textContent = "Press Ctrl-C";
    }
  });

  const delivered = data.snapshots.findIndex((snapshot) => snapshot.step === data.delivered);
  show(Math.max(0, delivered));
})();
