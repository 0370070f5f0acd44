// The animated circle. Hollow while it listens, turning while it thinks, filled while it speaks: its shape shows the
// state, its motion the level. With reduced motion it keeps its shape and nothing moves by itself.

const FORMS = {
  //           fill: how full, ring: strength of the contours, spin: the thinking sweep, breath: of the resting circle
  resting: { fill: 1, ring: 0.35, spin: 0, breath: 0.4 },
  listening: { fill: 0, ring: 1, spin: 0, breath: 1 },
  thinking: { fill: 0.1, ring: 0.5, spin: 1, breath: 0.3 },
  speaking: { fill: 1, ring: 1, spin: 0, breath: 0.3 },
  waiting: { fill: 0, ring: 0.3, spin: 0.35, breath: 0.3 },
};
const LAYERS = 4;
const POINTS = 96;
const BREATH = 5.5; // seconds

/** The same colour with less opacity. "transparent" would not do: it is transparent black, and greys the gradient. */
const faded = (colour, alpha) => colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);

export class Orb {
  /** @param {() => number} level returns the loudness to move with, 0 to 1; called at every frame */
  constructor(canvas, level) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.level = level;
    this.form = "resting";
    this.now = { ...FORMS.resting };
    this.smooth = 0;
    this.phase = 0;
    this.last = 0;
    this.still = window.matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.#fit()).observe(canvas);
    requestAnimationFrame((time) => this.#frame(time));
  }

  #fit() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
  }

  #frame(time) {
    const elapsed = Math.min(0.1, (time - this.last) / 1000);
    this.last = time;
    const toward = FORMS[this.form];
    const pace = this.still.matches ? 1 : 1 - Math.exp(-elapsed * 11);
    for (const name of Object.keys(toward)) this.now[name] += (toward[name] - this.now[name]) * pace;
    const level = this.level() ** 1.5;
    // Fast to rise and slower to fall, which looks natural for a level.
    this.smooth += (level - this.smooth) * (1 - Math.exp(-elapsed * (level > this.smooth ? 28 : 7)));
    if (!this.still.matches) this.phase += elapsed * (0.55 + 2.2 * this.smooth);
    this.#draw(time / 1000);
    requestAnimationFrame((next) => this.#frame(next));
  }

  #draw(time) {
    const { context, canvas, now } = this;
    const still = this.still.matches;
    const size = canvas.width;
    const colour = getComputedStyle(canvas).color;
    const breath = still ? 0 : Math.sin((2 * Math.PI * time) / BREATH) * 0.018 * now.breath;
    const radius = size * 0.315 * (1 + breath + 0.07 * this.smooth);
    const swell = still ? 0 : 0.012 + 0.055 * this.smooth;
    context.clearRect(0, 0, size, size);
    context.save();
    context.translate(size / 2, size / 2);
    context.strokeStyle = colour;
    context.fillStyle = colour;

    this.#glow(colour, radius, size);
    for (let layer = LAYERS; layer >= 1; layer -= 1) {
      const spread = 1 + layer * (0.03 + 0.035 * this.smooth);
      context.globalAlpha = now.ring * (0.42 / layer) * (0.65 + 0.35 * this.smooth);
      context.lineWidth = Math.max(1, size * 0.0045);
      this.#contour(radius * spread, swell * (1 + 0.22 * layer), layer);
      context.stroke();
    }

    context.globalAlpha = 1;
    this.#contour(radius, swell * 0.7, 0);
    if (now.fill > 0.01) {
      context.globalAlpha = now.fill;
      context.fill();
    }
    context.globalAlpha = (1 - now.fill) * (0.25 + 0.75 * now.ring);
    context.lineWidth = size * 0.0085;
    context.stroke();
    if (now.spin > 0.01) this.#sweep(radius, still ? 0 : time, size, colour);
    context.restore();
  }

  /** Draw light around the circle, stronger with the voice. */
  #glow(colour, radius, size) {
    const { context, now } = this;
    const light = context.createRadialGradient(0, 0, radius * 0.7, 0, 0, size / 2);
    light.addColorStop(0, faded(colour, 0.22 + 0.4 * now.fill));
    light.addColorStop(0.3, faded(colour, 0.5));
    light.addColorStop(0.65, faded(colour, 0.15));
    light.addColorStop(1, faded(colour, 0));
    context.globalAlpha = 0.14 + 0.06 * now.fill + 0.22 * this.smooth;
    context.fillStyle = light;
    context.beginPath();
    context.arc(0, 0, size / 2, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = colour;
  }

  /** Draw a closed line that is nearly a circle: three slow waves of different lengths drift against each other. */
  #contour(radius, swell, layer) {
    const { context, phase } = this;
    context.beginPath();
    for (let i = 0; i <= POINTS; i += 1) {
      const angle = (2 * Math.PI * i) / POINTS;
      const wave =
        Math.sin(3 * angle + phase * 1.3 + layer * 0.9) * 0.5 +
        Math.sin(5 * angle - phase * 1.9 + layer * 1.7) * 0.32 +
        Math.sin(2 * angle + phase * 0.7 - layer * 0.6) * 0.4;
      const r = radius * (1 + swell * wave);
      context.lineTo(r * Math.cos(angle), r * Math.sin(angle));
    }
    context.closePath();
  }

  /** Draw the thinking state: a light that travels round the ring. */
  #sweep(radius, time, size, colour) {
    const { context, now } = this;
    const start = time * 2.4;
    const gradient = context.createConicGradient(start, 0, 0);
    gradient.addColorStop(0, faded(colour, 0));
    gradient.addColorStop(0.5, faded(colour, 0));
    gradient.addColorStop(1, colour);
    context.globalAlpha = now.spin;
    context.strokeStyle = gradient;
    context.lineWidth = size * 0.018;
    context.beginPath();
    context.arc(0, 0, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}
