// Building elements without HTML strings: the page's CSP refuses inline styles and scripts.

/** An element with a class, a text and children; text is always text, never markup. */
export function el(tag, className = '', text = '', children = []) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  node.append(...children);
  return node;
}

/** A button that keeps the keyboard where it was when it is clicked with the mouse. */
export function button(className, text, act, label = '') {
  const node = el('button', className, text);
  node.type = 'button';
  if (label) node.setAttribute('aria-label', label);
  node.addEventListener('pointerdown', (event) => event.preventDefault());
  node.addEventListener('click', act);
  return node;
}

/** Sets a text only when it differs: writing the same text still costs a layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, isShown) {
  node.classList.toggle('hidden', !isShown);
}
