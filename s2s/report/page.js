"use strict";
document.documentElement.classList.add("js");

/* Tables: a click on a head sorts, a second click turns the order; what has no value stays last. */
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const before = [...body.rows];
  const keyOf = (row, column) => {
    if (column === 0) return row.cells[0].textContent.trim().toLowerCase();
    const key = row.cells[column].dataset.key;
    return key === undefined ? null : key;
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x === y ? 0 : x < y ? -1 : 1;
  };
  const sort = (column) => {
    const turned = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", turned ? "descending" : "ascending");
    const rows = [...before].sort((one, other) => {
      const [a, b] = [keyOf(one, column), keyOf(other, column)];
      if (a === null || b === null) return (a === null) - (b === null);
      return turned ? compare(b, a) : compare(a, b);
    });
    body.append(...rows);
  };
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    head.addEventListener("click", (event) => event.target.closest("a") || sort(column));
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(column); }
    });
  });
}

/* Legends: a click on a row brings its lines out, a second one brings the others back. */
let chosen = null;
for (const entry of document.querySelectorAll(".legend [data-row]")) {
  entry.addEventListener("click", () => {
    chosen = chosen === entry.dataset.row ? null : entry.dataset.row;
    for (const one of document.querySelectorAll(".chart [data-row], .legend [data-row], .intervals [data-row]")) {
      one.classList.toggle("dim", chosen !== null && one.dataset.row !== chosen);
    }
  });
}

/* A link into what is folded opens it. */
const unfold = () => {
  const place = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let one = place; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
};
addEventListener("hashchange", unfold);
unfold();

/* Pictures: two of them side by side, moved and zoomed together. */
const make = (tag, classes, text) => {
  const one = document.createElement(tag);
  if (classes) one.className = classes;
  if (text) one.textContent = text;
  return one;
};
const round = (most) => {
  const unit = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((k) => k * unit).find((value) => value <= most) ?? unit;
};

class Viewer {
  constructor() {
    this.dialog = make("dialog");
    this.dialog.setAttribute("aria-label", "two pictures side by side");
    const bar = make("div", "bar");
    this.title = make("strong");
    const button = (text, told, act) => {
      const one = make("button", "", text);
      one.type = "button";
      one.title = told;
      one.addEventListener("click", act);
      return one;
    };
    this.swap = button("hold to swap", "show the other picture in each place while held", () => {});
    this.swap.addEventListener("pointerdown", () => this.exchange(true));
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
      this.swap.addEventListener(end, () => this.exchange(false));
    }
    bar.append(this.title,
      button("\u2212", "smaller", () => this.zoom(1 / 1.5)), button("+", "larger", () => this.zoom(1.5)),
      button("1:1", "one pixel of the image on one of the screen", () => this.natural()),
      button("fit", "the whole image", () => this.fit()), this.swap,
      button("close", "close", () => this.dialog.close()));
    const panes = make("div", "panes");
    this.panes = [0, 1].map(() => this.pane(panes));
    const foot = make("div", "foot");
    this.colours = make("div");
    this.readout = make("span");
    foot.append(this.colours, this.readout);
    this.dialog.append(bar, panes, foot);
    document.body.append(this.dialog);
    this.pointers = new Map();
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    addEventListener("resize", () => this.dialog.open && this.draw());
  }

  pane(parent) {
    const box = make("div", "pane");
    const select = make("select");
    select.setAttribute("aria-label", "which picture");
    const view = make("div", "view");
    const image = make("img");
    const marks = make("div");
    view.append(image, marks);
    box.append(select, view);
    parent.append(box);
    const pane = { select, view, image, marks, levels: null };
    select.addEventListener("change", () => this.load());
    view.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.place(pane, event));
    }, { passive: false });
    view.addEventListener("pointerdown", (event) => {
      view.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
    });
    view.addEventListener("pointermove", (event) => this.move(pane, event));
    for (const end of ["pointerup", "pointercancel"]) {
      view.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    view.addEventListener("dblclick", (event) => this.zoom(2, this.place(pane, event)));
    return pane;
  }

  open(gallery, figure) {
    const number = (name) => Number(gallery.dataset[name] ?? NaN);
    this.box = { left: number("left"), right: number("right"), top: number("top"), bottom: number("bottom") };
    this.range = number("range");
    this.figures = [...gallery.querySelectorAll("figure")];
    this.title.textContent = gallery.dataset.title;
    this.unit = gallery.dataset.unit;
    const bar = gallery.parentElement.querySelector(".colours");
    this.colours.replaceChildren(...(bar ? [bar.cloneNode(true)] : []));
    const first = this.figures[0] === figure ? 1 : 0;
    this.panes.forEach((pane, side) => {
      pane.select.replaceChildren(...this.figures.map((one, k) => {
        const option = make("option", "", one.querySelector("figcaption").textContent.trim());
        option.value = k;
        return option;
      }));
      pane.select.value = side === 0 ? this.figures.indexOf(figure) : first;
    });
    this.dialog.showModal();
    this.fit();
    this.load();
  }

  load(exchanged = false) {
    this.panes.forEach((pane, side) => {
      const from = this.panes[exchanged ? 1 - side : side];
      const source = this.figures[Number(from.select.value)].querySelector("img");
      pane.image.src = source.src;
      pane.image.alt = source.alt;
      const canvas = make("canvas");
      [canvas.width, canvas.height] = [source.naturalWidth, source.naturalHeight];
      pane.levels = canvas.getContext("2d", { willReadFrequently: true });
      if (canvas.width) pane.levels.drawImage(source, 0, 0);
    });
    this.draw();
  }

  exchange(on) {
    this.load(on);
  }

  /* Pixels of the screen per millimetre when the whole image is seen. */
  whole() {
    const { clientWidth, clientHeight } = this.panes[0].view;
    return Math.min(clientWidth / (this.box.right - this.box.left), clientHeight / (this.box.bottom - this.box.top));
  }

  fit() {
    this.scale = this.whole();
    this.centre = { x: (this.box.left + this.box.right) / 2, z: (this.box.top + this.box.bottom) / 2 };
    this.draw();
  }

  natural() {
    this.scale = this.panes[0].image.naturalWidth / (this.box.right - this.box.left) / devicePixelRatio;
    this.draw();
  }

  zoom(factor, about = this.centre) {
    const wanted = Math.min(Math.max(this.scale * factor, this.whole() / 2), this.whole() * 40);
    const real = wanted / this.scale;
    this.scale = wanted;
    this.centre = { x: about.x + (this.centre.x - about.x) / real, z: about.z + (this.centre.z - about.z) / real };
    this.draw();
  }

  /* Where in the scene a pointer is, in millimetres. */
  place(pane, event) {
    const { left, top, width, height } = pane.view.getBoundingClientRect();
    return {
      x: this.centre.x + (event.clientX - left - width / 2) / this.scale,
      z: this.centre.z + (event.clientY - top - height / 2) / this.scale,
    };
  }

  move(pane, event) {
    this.tell(this.place(pane, event));
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const others = [...this.pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    const share = 1 / (others.length + 1);
    this.centre.x -= share * (event.clientX - last.clientX) / this.scale;
    this.centre.z -= share * (event.clientY - last.clientY) / this.scale;
    if (others.length === 1) {
      const apart = (one) => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY) || 1;
      this.zoom(apart(event) / apart(last), this.place(pane, others[0]));
    }
    this.pointers.set(event.pointerId, event);
    this.draw();
  }

  key(event) {
    if (event.target.tagName === "SELECT") return;
    const step = 40 / this.scale;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) {
      this.centre.x += moves[event.key][0];
      this.centre.z += moves[event.key][1];
      event.preventDefault();
      this.draw();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.fit();
  }

  /* The grey level under the pointer in both pictures, in dB; maps have colours instead. */
  tell({ x, z }) {
    const { left, right, top, bottom } = this.box;
    const told = this.panes.map(({ levels, select }) => {
      const { width, height } = levels.canvas;
      const [column, row] = [Math.floor((x - left) / (right - left) * width), Math.floor((z - top) / (bottom - top) * height)];
      if (Number.isNaN(this.range) || column < 0 || row < 0 || column >= width || row >= height) return "";
      const level = levels.getImageData(column, row, 1, 1).data[0];
      return `${select.selectedOptions[0].textContent}: ${(this.range * (level / 255 - 1)).toFixed(1)} dB`;
    });
    this.readout.textContent = `x ${x.toFixed(1)} ${this.unit}, depth ${z.toFixed(1)} ${this.unit}   ${told.join("   ")}`;
  }

  draw() {
    const { left, right, top, bottom } = this.box;
    for (const { view, image, marks } of this.panes) {
      const at = (x, z) => [
        view.clientWidth / 2 + (x - this.centre.x) * this.scale, view.clientHeight / 2 + (z - this.centre.z) * this.scale,
      ];
      const [x, y] = at(left, top);
      Object.assign(image.style, {
        left: `${x}px`, top: `${y}px`, width: `${(right - left) * this.scale}px`, height: `${(bottom - top) * this.scale}px`,
      });
      marks.replaceChildren();
      const step = round(120 / this.scale);
      for (let depth = Math.ceil(top / step) * step; depth <= bottom; depth += step) {
        const mark = make("span", "depth", `${Number(depth.toPrecision(6))}`);
        mark.style.top = `${at(0, depth)[1]}px`;
        marks.append(mark);
      }
      const long = round(view.clientWidth / 3 / this.scale);
      const bar = make("span", "scalebar", `${Number(long.toPrecision(3))} ${this.unit}`);
      bar.style.width = `${long * this.scale}px`;
      marks.append(bar);
    }
  }
}

let viewer = null;
for (const gallery of document.querySelectorAll(".gallery")) {
  for (const figure of gallery.querySelectorAll("figure")) {
    figure.tabIndex = 0;
    const open = () => (viewer ??= new Viewer()).open(gallery, figure);
    figure.addEventListener("click", open);
    figure.addEventListener("keydown", (event) => event.key === "Enter" && open());
  }
}
