def show(params)
  eval(params[:expr])
end
