// Plots the speech probability over the last seconds of sound, with the threshold above which it counts as speech.

const KEPT = 100; // moments of about a tenth of a second

export class Likelihood {
  #moments = [];
  #line = 0.5;

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.#draw()).observe(canvas);
    document.addEventListener("themechange", () => this.#draw());
  }

  add(probability) {
    this.#moments.push(probability);
    if (this.#moments.length > KEPT) this.#moments.shift();
    this.#draw();
  }

  set line(value) {
    this.#line = value;
    this.#draw();
  }

  #draw() {
    const { canvas, context } = this;
    const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
    const height = (canvas.height = canvas.clientHeight * devicePixelRatio);
    const colour = getComputedStyle(canvas).color;
    const step = width / KEPT;
    const inset = 8 * devicePixelRatio;
    const y = (probability) => height - inset - probability * (height - 2 * inset);
    context.fillStyle = colour;
    this.#moments.forEach((probability, i) => {
      const x = width - (this.#moments.length - i) * step;
      context.globalAlpha = probability >= this.#line ? 1 : 0.35;
      context.fillRect(x, y(probability), Math.max(1, step * 0.7), height - inset - y(probability) + devicePixelRatio);
    });
    context.globalAlpha = 1;
    context.strokeStyle = colour;
    context.lineWidth = devicePixelRatio;
    context.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    context.beginPath();
    context.moveTo(0, y(this.#line));
    context.lineTo(width, y(this.#line));
    context.stroke();
  }
}
