package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestYuan(t *testing.T) {
	cases := map[int64]string{0: "0.00", 5: "0.05", 1234: "12.34", -150: "-1.50"}
	for cents, want := range cases {
		if got := yuan(cents); got != want {
			t.Errorf("yuan(%d) = %q, want %q", cents, got, want)
		}
	}
}

func TestRunReportsRefusal(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		http.Error(w, "没有权限", http.StatusForbidden)
	}))
	defer server.Close()
	exporter := &Exporter{UploadURL: server.URL, Client: server.Client()}
	if err := exporter.Run(context.Background(), Job{ID: 1}); err == nil || calls != 1 {
		t.Errorf("err = %v, calls = %d", err, calls)
	}
}
