package main

import (
	"io"
	"net/http"
	"os"
)

func get(w http.ResponseWriter, r *http.Request) {
	f, _ := os.Open("/data/" + r.URL.Query().Get("f"))
	io.Copy(w, f)
}
