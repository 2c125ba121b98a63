module cangku.example/worker

go 1.21
