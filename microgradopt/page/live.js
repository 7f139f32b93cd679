// Figures that live. A figure is a <figure class="live" data-figure="name">, and what live.add(name, ...) says of it:
// numbers as JSON, and functions that were derived (explorable.py). Nothing here computes a loss, a gradient or an update.
const live = (() => {
"use strict";

/*elements.js*/
/*walkers.js*/
/*surface.js*/
/*figures.js*/
return { add, shown };
})();
