// Search in the site as files (file://): browsers refuse web workers there, so that the theme's search script runs
// in a hidden frame. Nothing is loaded from the net, and on a server this file does nothing.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      this.inside = new Promise(resolve => {
        frame.onload = () => {
          const inside = frame.contentWindow
          const script = frame.contentDocument.createElement("script")
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
          script.onload = () => resolve(inside)
          script.src = new URL(url, document.baseURI).href
          frame.contentDocument.head.append(script)
        }
      })
      frame.hidden = true
      frame.srcdoc = "<!doctype html><title>search</title>"
      document.body.append(frame)
    }

    postMessage(data) {
      this.inside.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", {data})))
    }
  }
}
