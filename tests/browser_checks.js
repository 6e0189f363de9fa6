// What tests/test_browser.py asks of a page that a browser shows: each function returns a list of sentences about what is amiss.
"use strict";
(() => {
const links = () => [...document.querySelectorAll("a[href]")].map(link => [link.getAttribute("href"), new URL(link.getAttribute("href"), document.baseURI).href]);

const formulas = () => {
    const found = [...document.querySelectorAll(".math")].filter(math => !math.querySelector("mjx-container"))
        .map(math => "not set: " + math.textContent.trim().slice(0, 80));
    for (const wrong of document.querySelectorAll("mjx-merror")) found.push("wrong: " + wrong.getAttribute("data-mjx-error"));
    for (const wrong of document.querySelectorAll("mjx-container [style*='color: red']"))
        found.push("unknown: " + wrong.closest("mjx-container").querySelector("mjx-assistive-mml")?.textContent.trim().slice(0, 80));
    const walk = document.createTreeWalker(document.querySelector("main") || document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const text = walk.currentNode;
        if (text.parentElement.closest("pre, code, script, style, svg, mjx-container, .sig")) continue;
        if (/\\[([]|\$\$|\\(frac|begin|end|tag|mathrm|text|sum|hat|tilde|Gamma|sigma|partial)\b|\$[^$\s][^$]*\\[a-z]+[^$]*\$/.test(text.data))
            found.push("left as text: " + text.data.trim().slice(0, 80));
    }
    return found;
};

const markup = () => {
    const main = document.querySelector("article") || document.body, found = [];
    for (const line of main.innerText.split("\n"))
        if (/^\s*#\s*\|\s*\w/.test(line) || /^\s*%(xmode|config|matplotlib|load_ext)\b/.test(line)) found.push("directive: " + line.trim());
    for (const block of main.querySelectorAll("pre"))
        if (/Traceback \(most recent call last\)/.test(block.textContent) && !block.closest(".tag_raises-exception"))
            found.push("traceback: " + block.textContent.trim().split("\n").pop().slice(0, 100));
    for (const output of main.querySelectorAll(".cell_output .stderr, .cell_output .traceback"))
        if (!output.closest(".tag_raises-exception")) found.push("error output: " + output.textContent.trim().slice(0, 100));
    const walk = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const text = walk.currentNode;
        if (!text.parentElement.closest("pre, code, script, style") && /```|\[!(NOTE|TIP|WARNING|IMPORTANT)\]|\{eval-rst\}|\{div\}|^\s*:::/.test(text.data))
            found.push("markup: " + text.data.trim().slice(0, 80));
    }
    return found;
};

const pictures = () => {
    const main = document.querySelector("article") || document.body, name = picture => picture.currentSrc || picture.outerHTML.slice(0, 80);
    const words = text => (text || "").trim().split(/\s+/).filter(word => word).length;
    const found = [...main.querySelectorAll("img")].filter(img => words(img.getAttribute("alt")) < 3 || /\.(png|svg|jpe?g|gif)$/.test(img.alt))
        .map(img => "no words: " + name(img));
    for (const img of document.querySelectorAll("img")) if (!img.complete || !img.naturalWidth) found.push("does not show: " + name(img));
    for (const svg of main.querySelectorAll("svg"))
        if (!svg.closest("[aria-hidden=true], button, a, summary, .headerlink") && !svg.matches("[aria-hidden=true]")
            && words(svg.getAttribute("aria-label") || svg.querySelector("title")?.textContent) < 3) found.push("no words: " + name(svg));
    for (const img of main.querySelectorAll(".cell_output img"))
        if (!img.closest("figure")?.querySelector("figcaption")) found.push("no caption: " + img.alt.slice(0, 80));
    return found;
};

const width = () => {
    const wide = document.documentElement.clientWidth, most = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth);
    const found = most > screen.width ? [`the page is ${most} wide on a screen of ${screen.width}`] : [];
    const scrolls = style => /auto|scroll/.test(style.overflowX);
    for (const part of document.querySelectorAll("article *")) {
        const style = getComputedStyle(part), box = part.getBoundingClientRect();
        if (part.closest("mjx-container, svg") || !box.width || style.position === "absolute") continue;
        if (/hidden|clip/.test(style.overflowX) && part.scrollWidth > part.clientWidth + 2 && part.clientWidth > 2
            && ![...part.querySelectorAll("*")].some(inner => scrolls(getComputedStyle(inner))))
            found.push(`cut off: ${part.tagName.toLowerCase()}.${part.className} shows ${part.clientWidth} of ${part.scrollWidth}`);
        if (box.right > wide + 1) {
            let parent = part.parentElement;
            while (parent && !scrolls(getComputedStyle(parent))) parent = parent.parentElement;
            if (!parent || parent.matches("html, body, main, .bd-main, article")) found.push(`beyond the edge: ${part.tagName.toLowerCase()}.${part.className}: ${part.textContent.trim().slice(0, 40)}`);
        }
    }
    return found;
};

// not text that is read: scripts and names; what a control that cannot be used says; in a figure that moves, the steps not reached yet
const PASSED = "script, style, noscript, title, desc, template, mjx-assistive-mml, [disabled], .seqbook-figure [data-from]:not(.on)";
const contrast = () => {
    document.getAnimations().forEach(moving => { try { moving.finish(); } catch { moving.cancel(); } });
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true}), known = new Map();
    const rgba = text => {
        if (!known.has(text)) {
            canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = "#000"; canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
            known.set(text, [r, g, b, a / 255]);
        }
        return known.get(text);
    };
    const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
    const light = color => { const [r, g, b] = color.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
    const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
    const styles = new Map(), styled = part => styles.get(part) || styles.set(part, getComputedStyle(part)).get(part);
    const grounds = new Map();
    const ground = part => {   // the colour behind a part, and whether a picture lies there
        if (!part) return [255, 255, 255];
        if (!grounds.has(part)) {
            const color = rgba(styled(part).backgroundColor);
            grounds.set(part, color[3] === 1 ? color.slice(0, 3) : over(color, ground(part.parentElement)));
        }
        return grounds.get(part);
    };
    const faded = part => { let left = 1; for (; part; part = part.parentElement) left *= +styled(part).opacity; return left; };
    const shapes = new Map();
    const behind = (text, box) => {   // in a drawing, the shapes painted before the text and under its middle
        const svg = text.ownerSVGElement, x = box.left + box.width / 2, y = box.top + box.height / 2;
        if (!shapes.has(svg)) shapes.set(svg, [...svg.querySelectorAll("rect, path, circle, ellipse, polygon")].map(s => [s, s.getBoundingClientRect()]));
        let color = ground(svg);
        for (const [shape, edge] of shapes.get(svg)) {
            const style = styled(shape);
            if (style.fill === "none" || edge.left > x || edge.right < x || edge.top > y || edge.bottom < y) continue;
            if (!(text.compareDocumentPosition(shape) & Node.DOCUMENT_POSITION_PRECEDING)) continue;
            const fill = rgba(style.fill);
            color = over([...fill.slice(0, 3), fill[3] * style.fillOpacity * faded(shape)], color);
        }
        return color;
    };
    const found = new Map(), walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
    let checked = 0;
    while (walk.nextNode()) {
        const node = walk.currentNode, part = node.parentElement;
        if (!node.data.trim() || part.closest(PASSED)) continue;
        if (!part.checkVisibility({visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: true})) continue;
        range.selectNodeContents(node);
        const box = range.getBoundingClientRect(), style = styled(part), drawn = part.ownerSVGElement;
        if (box.width < 2 || box.height < 2 || style.clip === "rect(0px, 0px, 0px, 0px)" || part.closest(".visually-hidden, .sr-only")) continue;
        const under = drawn ? behind(part.closest("text"), box) : ground(part), ink = rgba(drawn ? style.fill : style.color);
        const seen = ratio(over([...ink.slice(0, 3), ink[3] * faded(part)], under), under);
        const size = parseFloat(style.fontSize), needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        checked += 1;
        if (seen < needed - .005) {
            const key = `${part.tagName.toLowerCase()}.${part.getAttribute("class") || ""} ${under.map(Math.round)}`;
            if (!found.has(key)) found.set(key, `${seen.toFixed(2)} of ${needed}: ${key} “${node.data.trim().slice(0, 40)}”`);
        }
    }
    return [checked, [...found.values()]];
};

const audit = async rules => {
    const options = {resultTypes: ["violations"], preload: false, rules: {"color-contrast": {enabled: rules}}};
    return (await axe.run(document, options)).violations.map(v => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 120)]);
};

window.checks = {links, formulas, markup, pictures, width, contrast, audit};
})();
